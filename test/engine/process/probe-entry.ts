/** Entry of a forked probe engine. */
import { serveEngine } from "../../../engine/process/serve.ts";
import { createProbeEngine } from "./probe-engine.ts";

serveEngine(createProbeEngine);
