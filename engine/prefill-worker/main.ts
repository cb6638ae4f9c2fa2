/** Entry of the prefill worker's process. Started by `startPrefillWorker`. */
import { spreadCellFile } from "../llama/cell-file.ts";
import { loadLlamaBackend } from "../llama/load.ts";
import { servePrefill } from "./serve.ts";

process.title = "weft-prefill";
servePrefill(loadLlamaBackend, spreadCellFile);
