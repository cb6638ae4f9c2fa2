/** Entry of the engine process, the only process that runs native code. Started by `forkEngine`. */
import { createEngine } from "../engine.ts";
import { FaultInjector } from "../faults.ts";
import { loadLlamaBackend } from "../llama/load.ts";
import { serveEngine } from "./serve.ts";

process.title = "weft-engine";
const faults = process.env["WEFT_FAULTS"] === "1" ? new FaultInjector() : undefined;
serveEngine((emit) => {
  if (faults === undefined) return createEngine(loadLlamaBackend, emit);
  const engine = createEngine(faults.wrap(loadLlamaBackend), faults.wrapEmit(emit));
  return {
    stopped: engine.stopped,
    receive: (command) => (command.type === "fault" ? faults.inject(command.fault) : engine.receive(command)),
  };
});
