import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { CommanderError } from "commander";
import { describe, expect, it } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { ModelFileError } from "../../../models/model-file-error.ts";
import { packageRoot } from "../../../models/package-root.ts";
import { describeFailure, ListenError } from "../../../src/cli/exit-codes.ts";
import { createProgram } from "../../../src/cli/program.ts";
import { ServeCommand } from "../../../src/cli/serve-flags.ts";
import { ConfigError } from "../../../src/config/config-error.ts";
import { environmentName, serveOptionNames } from "../../../src/config/options.ts";

function parse(...argv: string[]) {
  const command = new ServeCommand("serve");
  command.argument("[model...]").exitOverride();
  command.configureOutput({ writeErr: () => undefined });
  command.parse(argv, { from: "user" });
  return { ...command.given(), models: command.args };
}

/** Runs the executable from its sources. */
function weft(...argv: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return weftIn(packageRoot, ...argv);
}

function weftIn(
  cwd: string,
  ...argv: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...process.execArgv, join(packageRoot, "src/main.ts"), ...argv], {
      cwd,
      // Through npx it would be told that it runs in a checkout.
      env: {
        ...process.env,
        npm_package_name: "",
        WEFT_OFFLINE: "1",
        WEFT_CACHE: join(packageRoot, "no-such-cache"),
      },
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => (stdout += String(chunk)));
    child.stderr.on("data", (chunk) => (stderr += String(chunk)));
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

describe("the command line", () => {
  it("hands on what was given and nothing else", () => {
    expect(parse()).toEqual({ flags: {}, file: undefined, models: [] });
    expect(
      parse(
        "--port",
        "1",
        "--model",
        "a",
        "--model",
        "b",
        "--strict-params",
        "--no-deterministic",
        "--config",
        "c.json",
      ),
    ).toEqual({
      flags: { port: "1", model: ["a", "b"], "strict-params": "on", deterministic: "off" },
      file: "c.json",
      models: [],
    });
  });

  it("takes models as arguments too", () => {
    expect(parse("a", "b", "--max-queued", "9")).toMatchObject({
      flags: { "max-queued": "9" },
      models: ["a", "b"],
    });
  });

  it.each([
    ["--plugs", "on"],
    ["--plugs on", "on"],
    ["--plugs off", "off"],
    ["--plugs false", "false"],
    ["--plugs 0", "0"],
    ["--plugs 1", "1"],
    ["--plugs=off", "off"],
    ["--no-plugs", "off"],
    ["--no-plugs --plugs", "on"],
    // Refused where values are read.
    ["--plugs=maybe", "maybe"],
  ])("takes a switch as %s", (line, value) => {
    expect(parse(...line.split(" "))).toEqual({ flags: { plugs: value }, file: undefined, models: [] });
  });

  it("leaves a model's name behind a switch alone, and a value that looks like a switch", () => {
    expect(parse("--strict-params", "my-model")).toMatchObject({
      flags: { "strict-params": "on" },
      models: ["my-model"],
    });
    expect(parse("--alias", "--plugs", "off")).toMatchObject({
      flags: { alias: ["--plugs"] },
      models: ["off"],
    });
    expect(parse("--plugs", "--", "off")).toMatchObject({ flags: { plugs: "on" }, models: ["off"] });
    expect(parse("--", "--no-plugs", "--plugs", "off")).toEqual({
      flags: {},
      file: undefined,
      models: ["--no-plugs", "--plugs", "off"],
    });
  });

  it("takes --no- of every option that can be off, and of no other", () => {
    expect(parse("--no-prefill-worker", "--no-eviction", "--no-isolate-keys").flags).toEqual({
      "prefill-worker": "off",
      eviction: "off",
      "isolate-keys": "off",
    });
    expect(() => parse("--no-slots")).toThrow("unknown option '--no-slots'");
  });

  it("shows every option of the table with its environment variable", () => {
    const help = createProgram(() => undefined)
      .commands.find((command) => command.name() === "serve")
      ?.helpInformation();
    const words = help?.replaceAll(/\s+/g, " ");
    for (const name of serveOptionNames) {
      expect(words).toContain(`--${name}`);
      expect(words).toContain(`[${environmentName(name)}`);
    }
    expect(words).toContain("--port <number> TCP port; 0 takes a free one [WEFT_PORT, default 9338]");
    expect(words).toContain("--deterministic [on|off] reuse");
    expect(words).toContain(
      "--drain-timeout <seconds> time that running requests get at shutdown [WEFT_DRAIN_TIMEOUT, default 30s]",
    );
    expect(words).toContain("[WEFT_PLUGS, default on]");
    expect(words).toContain("[WEFT_DETERMINISTIC, default off]");
  });
});

describe("an exit code", () => {
  it.each([
    [new ConfigError("Wrong."), 2, "Wrong."],
    [new CommanderError(1, "commander.unknownOption", "printed already"), 2, undefined],
    [new CommanderError(0, "commander.helpDisplayed", "printed already"), 0, undefined],
    [new ModelFileError("model_not_found", "Where?"), 3, "Where?"],
    [new ModelFileError("model_invalid", "Broken."), 3, "Broken."],
    [new ModelFileError("download_failed", "No network."), 1, "No network."],
    [new EngineError("model_invalid", "Broken."), 3, "Broken."],
    [new EngineError("out_of_memory", "No room. Try less."), 4, "No room. Try less."],
    [new EngineError("gpu_unavailable", "Use --gpu off."), 1, "Use --gpu off."],
    [
      new EngineError("engine_exited", "It died."),
      1,
      "It died. The system may have run out of memory; try fewer --slots or a smaller --context. " +
        "On a GPU its driver may have failed; try --flash-attention off or --gpu off.",
    ],
    [new ListenError("EADDRINUSE", "Taken."), 5, "Taken."],
    [new ListenError("EACCES", "Not allowed."), 1, "Not allowed."],
  ] as const)("of %s is %i", (error, code, line) => {
    expect(describeFailure(error)).toEqual({ code, line });
  });
});

describe("the executable", () => {
  it("says in one line what is wrong with an option", async () => {
    expect(await weft("serve", "--slots", "many")).toEqual({
      code: 2,
      stdout: "",
      stderr: 'weft: Expected --slots to be an integer from 1 to 256, but got "many".\n',
    });
  });

  it("knows no option by half its name", async () => {
    const { code, stderr } = await weft("serve", "--prot", "1");
    expect([code, stderr]).toEqual([2, "weft: unknown option '--prot'\n(Did you mean --port?)\n"]);
  });

  it.each([
    ["serve", 'This is "weft serve" already; leave out the second "serve".'],
    ["run", 'This is "weft serve" already; leave out "run".'],
    ["list", '"list" is a command and no model to serve; run it with: weft list'],
    // A folder of the checkout, in which this runs.
    ["bench", '"bench" is a command and no model to serve; run it with: weft bench'],
  ])("says what %s behind npm start means", async (word, message) => {
    expect(await weft("serve", word)).toEqual({ code: 2, stdout: "", stderr: `weft: ${message}\n` });
  });

  it("takes a file that is called like a command for a model", async () => {
    const folder = mkdtempSync(join(tmpdir(), "weft-program-"));
    writeFileSync(join(folder, "list"), "no model");
    // For the loader that runs TypeScript.
    symlinkSync(join(packageRoot, "node_modules"), join(folder, "node_modules"));
    const { code, stderr } = await weftIn(folder, "serve", "list");
    rmSync(folder, { recursive: true });
    expect(code).toBe(3);
    expect(stderr).toContain(`${join(folder, "list")} is not a usable GGUF model`);
  });

  it("knows the command that other servers have", async () => {
    expect(await weft("run", "smollm2")).toEqual({
      code: 2,
      stdout: "",
      stderr: 'weft: There is no command "run"; serve a model with: weft serve --model smollm2\n',
    });
  });

  it.each([
    [
      "bench",
      "--rate",
      "x",
      "weft bench: option '--rate <per second>' argument 'x' is invalid. Expected a number above 0, at most 10000.\n",
    ],
    [
      "tune",
      "--clients",
      "0",
      "weft tune: option '--clients <n>' argument '0' is invalid. Expected a whole number from 1 to 256.\n",
    ],
    [
      "simulate",
      "--rate",
      "x",
      "weft simulate: option '--rate <per second>' argument 'x' is invalid. Expected a number from 0 to 1000000.\n",
    ],
  ])("says in the name of %s what is wrong with an option of it", async (command, flag, value, stderr) => {
    expect(await weft(command, flag, value)).toEqual({ code: 2, stdout: "", stderr });
  });

  it("says which models there are when there is no such model", async () => {
    expect(await weft("serve", "nope")).toEqual({
      code: 3,
      stdout: "",
      stderr:
        'weft: There is no model "nope". Give the path of a .gguf file, hf:org/repo:QUANT, or one of: pocket, pocket-draft, smollm2.\n',
    });
  });

  it("says what a switch takes when the word behind it is no model", async () => {
    const unknown = (name: string): string =>
      `weft: There is no model "${name}". Give the path of a .gguf file, hf:org/repo:QUANT, or one of: pocket, pocket-draft, smollm2.`;
    expect(await weft("serve", "--plugs", "maybe")).toEqual({
      code: 3,
      stdout: "",
      stderr: `${unknown("maybe")} If it was meant for --plugs: that takes on or off.\n`,
    });
    expect((await weft("serve", "--plugs", "off", "nope")).stderr).toBe(`${unknown("nope")}\n`);
  });

  it("refuses more threads than ggml has, and warns of more than there are cores", async () => {
    const refused = await weft("serve", "--threads", "1000");
    expect(refused).toEqual({
      code: 2,
      stdout: "",
      stderr: 'weft: Expected --threads to be an integer from 1 to 512, but got "1000".\n',
    });
    const { stderr } = await weft("serve", "nope", "--threads", "512", "--log-format", "json");
    const [warning = "", error] = stderr.split("\n");
    expect(JSON.parse(warning)).toMatchObject({
      level: 40,
      threads: 512,
      cores: availableParallelism(),
      msg: expect.stringMatching(/^--threads 512 is more than the \d+ core/),
    });
    expect(error).toMatch(/^weft: There is no model "nope"/);
  });

  it("says that a file is no model before any native code reads it", async () => {
    const { code, stderr } = await weft("serve", join(packageRoot, "package.json"));
    expect(code).toBe(3);
    expect(stderr).toContain("is not a usable GGUF model: it does not begin with GGUF (at byte 4)");
  });

  it("says why a server cannot be checked, whose address may be without http://", async () => {
    // Nobody listens there, no system gives it away, and fetch refuses port 1 by itself.
    for (const argv of [["http://127.0.0.1:2"], ["127.0.0.1:2/v1", "--model", "pocket"]])
      expect(await weft("doctor", "--conformance", ...argv)).toEqual({
        code: 1,
        stdout: "",
        stderr:
          "weft: http://127.0.0.1:2 cannot be checked: ECONNREFUSED: connect ECONNREFUSED 127.0.0.1:2. Is the server running?\n",
      });
  });

  it("names the way out when its port is in use", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    expect(await weft("serve", "--port", String(port))).toEqual({
      code: 5,
      stdout: "",
      stderr: `weft: Port ${port} is in use; stop the other server or choose another with --port.\n`,
    });
    other.close();
  });
});
