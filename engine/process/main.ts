/** Entry of the engine process, which runs native code, and beside which only its prefill worker does. Started by `forkEngine`. */
import { createEngine } from "../engine.ts";
import { FaultInjector } from "../faults.ts";
import { IdleGarbage } from "../idle-garbage.ts";
import { loadLlamaBackend } from "../llama/load.ts";
import { startPrefillWorker } from "../prefill-worker/client.ts";
import { serveEngine } from "./serve.ts";

process.title = "weft-engine";
const faults = process.env["WEFT_FAULTS"] === "1" ? new FaultInjector() : undefined;
serveEngine((emit) => {
  const engine =
    faults === undefined
      ? createEngine(loadLlamaBackend, emit, startPrefillWorker)
      : createEngine(faults.wrap(loadLlamaBackend), faults.wrapEmit(emit), startPrefillWorker);
  new IdleGarbage(() => engine.idle).start();
  if (faults === undefined) return engine;
  return {
    stopped: engine.stopped,
    receive: (command) => (command.type === "fault" ? faults.inject(command.fault) : engine.receive(command)),
  };
});
