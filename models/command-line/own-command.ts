/** How a user writes a command of ours where they are: a checkout has no `weft` on its path. */

type Environment = Readonly<Record<string, string | undefined>>;

/** @param line Arguments of `weft`: `serve --model smollm2`, `doctor`. */
export function ownCommand(line: string, env: Environment = process.env): string {
  // npm says whose script it runs; that of somebody else's package has weft installed.
  if (env["npm_package_name"] !== "weft") return `weft ${line}`;
  return line.startsWith("serve") ? line.replace(/^serve/, "npm start --") : `npm run weft -- ${line}`;
}
