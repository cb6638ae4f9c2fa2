/**
 * A server process that forks one probe engine, prints the engine's process id and waits to be killed. With the
 * argument "stuck" the engine is in an endless loop by then.
 */
import { forkEngine } from "../../../engine/process/fork.ts";

const port = forkEngine({ entry: new URL("./probe-entry.ts", import.meta.url) });
port.onEvent((event) => {
  if (event.type !== "tokenized") return;
  if (process.argv[2] === "stuck") {
    port.send({ type: "tokenize", call: 2, texts: [[{ text: "loop", special: false }]], addBos: false });
  }
  process.stdout.write(`${event.tokens[0]?.[0]}\n`);
});
port.send({ type: "tokenize", call: 1, texts: [[{ text: "pid", special: false }]], addBos: false });
