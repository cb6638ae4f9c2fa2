/** Entry of the engine process, the only process that runs native code. Started by `forkEngine`. */
import { createEngine } from "../engine.ts";
import { loadLlamaBackend } from "../llama/load.ts";
import { serveEngine } from "./serve.ts";

process.title = "weft-engine";
serveEngine((emit) => createEngine(loadLlamaBackend, emit));
