/** The commands of `weft`, their arguments and their help. */
import { existsSync, statSync } from "node:fs";
import { Command } from "commander";
import { ownCommand } from "../../models/command-line/own-command.ts";
import { serverUrl } from "../../models/command-line/server-url.ts";
import { ModelFileError } from "../../models/model-file-error.ts";
import { packageVersion } from "../../models/package-root.ts";
import { ConfigError } from "../config/config-error.ts";
import type { ExitCode } from "./exit-codes.ts";
import { ServeCommand } from "./serve-flags.ts";

const EXIT_CODES = `
Exit codes: 0 ok, 1 other failure, 2 wrong usage, 3 no such model or not a model, 4 not enough memory, 5 port in use.`;

const SERVE_NOTES = `
An option is taken from the flag, else the environment, else the file, else its default.
An option with [on|off] is on where it stands alone; --no-NAME is NAME off, as of every option that knows off.
A time, <ms> or <seconds>, may have a unit of its own: 500ms, 2s, 10m.
In the environment several values of a repeatable option are separated by commas, or a JSON array; in the file they are one.`;

interface DoctorOptions {
  readonly conformance?: string;
  readonly model?: string;
  readonly apiKey?: string;
  readonly json?: true;
}

/**
 * Commands load what they need when they run, so that `--help` is quick.
 * @param setExitCode Receives the exit code of the command that ran.
 */
export function createProgram(setExitCode: (code: ExitCode) => void): Command {
  const program = new Command("weft")
    .description("OpenAI-compatible server for llama.cpp models.")
    .version(packageVersion(), "-V, --version")
    .helpCommand(false)
    .exitOverride()
    // As what this program itself finds wrong.
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "weft: ")) })
    .addHelpText("after", EXIT_CODES);

  const serve = new ServeCommand("serve");
  serve
    .copyInheritedSettings(program)
    .description("serve models over HTTP (npm start is the same)")
    .argument("[model...]", "models to serve, as with --model")
    .addHelpText("after", SERVE_NOTES)
    .action(async (models: readonly string[]) => {
      refuseCommands(models, program);
      const { runServe } = await import("./serve-command.ts");
      const { flags, file } = serve.given();
      const named = Array.isArray(flags["model"]) ? (flags["model"] as string[]) : [];
      if (models.length + named.length > 0) flags["model"] = [...models, ...named];
      try {
        setExitCode(await runServe({ flags, env: process.env, file }));
      } catch (error) {
        if (error instanceof ModelFileError) error.message += serve.adviceOn(error.message);
        throw error;
      }
    });
  program.addCommand(serve);

  program
    .command("pull")
    .description("fetch a model, so that it is there without the network")
    .argument("<model>", "smollm2, hf:org/repo:QUANT or hf:org/repo/file.gguf")
    .action(async (name: string) => {
      const { runPull } = await import("./model-commands.ts");
      setExitCode(await runPull(name));
    });

  program
    .command("list")
    .description("show the known models and which are here")
    .action(async () => {
      const { runList } = await import("./model-commands.ts");
      setExitCode(runList());
    });

  program
    .command("doctor")
    .description("check what this machine lacks, or how far a server speaks OpenAI's protocol")
    .option("--conformance <url>", "check the server at this address instead of this machine", serverUrl)
    .option("--model <name>", "with --conformance: the model to ask (default: the first one listed)")
    .option("--api-key <key>", "with --conformance: the key to send")
    .option("--json", "with --conformance: print one JSON document")
    .action(async (options: DoctorOptions) => {
      if (options.conformance !== undefined) {
        const { runConformance } = await import("./conformance-command.ts");
        const { conformance: url, model, apiKey, json } = options;
        setExitCode(await runConformance({ url, model, apiKey, json: json === true }));
        return;
      }
      const { runDoctor } = await import("./doctor-command.ts");
      setExitCode(runDoctor());
    });

  // Asked for by who knows other servers; commander would guess something else.
  program
    .command("run", { hidden: true })
    .allowUnknownOption()
    .argument("[arguments...]")
    .action(([model = "smollm2"]: readonly string[]) => {
      throw new ConfigError(
        `There is no command "run"; serve a model with: ${ownCommand(`serve --model ${model}`)}`,
      );
    });

  program
    .command("bench")
    .description("measure a server or an engine; see weft bench --help")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument("[arguments...]")
    .action(async (argv: readonly string[]) => {
      const { runBench } = await import("../../bench/cli.ts");
      setExitCode(await runBench(argv));
    });

  program
    .command("tune")
    .description("measure this machine and write the settings that serve best; see weft tune --help")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument("[arguments...]")
    .action(async (argv: readonly string[]) => {
      const [{ runTune }, { processOutput }] = await Promise.all([
        import("../../bench/tune/cli.ts"),
        import("../../bench/cli.ts"),
      ]);
      setExitCode(await runTune(argv, processOutput));
    });

  program
    .command("simulate")
    .description("run the scheduler on a simulated device, or a recording again; see weft simulate --help")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument("[arguments...]")
    .action(async (argv: readonly string[]) => {
      const [{ runSimulate }, { processOutput }] = await Promise.all([
        import("../../bench/simulate/cli.ts"),
        import("../../bench/cli.ts"),
      ]);
      setExitCode(await runSimulate(argv, processOutput));
    });

  return program;
}

/** `npm start` is `weft serve` already, which is easily forgotten. */
function refuseCommands([first]: readonly string[], program: Command): void {
  // A checkout has folders that are called like commands.
  if (first === undefined || (existsSync(first) && statSync(first).isFile())) return;
  if (first === "serve" || first === "run")
    throw new ConfigError(
      `This is "weft serve" already; leave out ${first === "serve" ? "the second " : ""}"${first}".`,
    );
  if (program.commands.some((command) => command.name() === first))
    throw new ConfigError(`"${first}" is a command and no model to serve; run it with: ${ownCommand(first)}`);
}
