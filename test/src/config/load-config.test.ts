import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { parseApiKeys } from "../../../src/config/api-keys.ts";
import { isLoopback, loadConfig } from "../../../src/config/load-config.ts";
import { environmentName, serveOptionNames, serveOptions } from "../../../src/config/options.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-config-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, "weft.json");

function load(flags: object, env: Record<string, string | undefined>, json?: unknown) {
  if (json !== undefined) writeFileSync(file, typeof json === "string" ? json : JSON.stringify(json));
  return loadConfig({ flags: { ...flags }, env, file: json === undefined ? undefined : file });
}

describe("an option's value", () => {
  it.each([
    { flags: { port: "1" }, env: { WEFT_PORT: "2" }, json: { port: 3 }, settled: [1, "flag"] },
    { flags: {}, env: { WEFT_PORT: "2" }, json: { port: 3 }, settled: [2, "env"] },
    { flags: {}, env: {}, json: { port: 3 }, settled: [3, "file"] },
    { flags: {}, env: {}, json: {}, settled: [9338, "default"] },
    { flags: {}, env: { WEFT_PORT: "" }, json: { port: null }, settled: [9338, "default"] },
  ])("comes from the nearest place: $flags, $env, $json", ({ flags, env, json, settled }) => {
    const config = load(flags, { ...env }, json);
    expect([config.values.port, config.sources.port]).toEqual(settled);
  });

  it("may be a list in each place", () => {
    expect(load({ model: ["a", "b"] }, {}).values.model).toEqual(["a", "b"]);
    expect(load({}, { WEFT_MODEL: "a, b," }).values.model).toEqual(["a", "b"]);
    expect(load({}, {}, { model: ["a"] }).values.model).toEqual(["a"]);
  });

  it.each([
    ["0", 0],
    ["1000", 1000],
    [1000, 1000],
    ["2K", 2048],
    ["1.5m", 1_572_864],
    ["2GiB", 2_147_483_648],
    ["1TB", 1_099_511_627_776],
  ])("may be bytes with a unit: %j", (raw, bytes) => {
    expect(load({}, {}, { "spill-size": raw }).values["spill-size"]).toBe(bytes);
  });

  it.each(["", "G", "1 2", "1e3", "0x10", "9999999T", ["1G"], {}])("is no number of bytes: %j", (raw) => {
    expect(() => load({ "spill-size": raw }, {})).toThrow(/--spill-size/);
  });

  it.each([
    ["itl-target", "50", 50],
    ["itl-target", 50, 50],
    ["itl-target", "50ms", 50],
    ["itl-target", "0.5s", 500],
    ["ttft-limit", "1m", 60_000],
    ["drain-timeout", "30", 30],
    ["drain-timeout", "500ms", 0.5],
    ["drain-timeout", "2 min", 120],
    ["max-header-seconds", "1500ms", 1.5],
    ["max-template-ms", "2s", 2000],
  ] as const)("may be a time with a unit: %s %j", (name, raw, value) => {
    expect(load({}, {}, { [name]: raw }).values[name]).toBe(value);
  });

  it.each(["", "ms", "1 2", "-1s", "2d", "61s", [1], true])("is no such time: %j", (raw) => {
    expect(() => load({}, {}, { "itl-target": raw })).toThrow(
      `Expected "itl-target" in ${file} to be a time from 1ms to 60000ms, such as 500ms or 2s, but got ${JSON.stringify(raw)}.`,
    );
  });

  it("may be false although a lower place says true", () => {
    expect(load({ deterministic: false }, { WEFT_DETERMINISTIC: "1" }).values.deterministic).toBe(false);
    expect(load({}, { WEFT_DETERMINISTIC: "off" }, { deterministic: true }).values.deterministic).toBe(false);
  });

  it.each([
    [{ port: "http" }, {}, undefined, 'Expected --port to be an integer from 0 to 65535, but got "http".'],
    [{ port: "70000" }, {}, undefined, 'Expected --port to be an integer from 0 to 65535, but got "70000".'],
    [{}, { WEFT_SLOTS: "0" }, undefined, 'Expected WEFT_SLOTS to be an integer from 1 to 256, but got "0".'],
    [
      {},
      { WEFT_SLOTS: "1.5" },
      undefined,
      'Expected WEFT_SLOTS to be an integer from 1 to 256, but got "1.5".',
    ],
    [
      {},
      { WEFT_GPU: "rocm" },
      undefined,
      'Expected WEFT_GPU to be one of auto, cuda, vulkan, metal, off, but got "rocm".',
    ],
    [
      {},
      {},
      { deterministic: "maybe" },
      `Expected "deterministic" in ${file} to be on or off, but got "maybe".`,
    ],
    [
      {},
      {},
      { "api-key": [1] },
      `Expected "api-key" in ${file} to be keys, each KEY or NAME=KEY and none of them empty, but got something else.`,
    ],
    [
      { "spill-size": "lots" },
      {},
      undefined,
      'Expected --spill-size to be a number of bytes, such as 500M or 2G, but got "lots".',
    ],
    [
      {},
      {},
      { "spill-size": -1 },
      `Expected "spill-size" in ${file} to be a number of bytes, such as 500M or 2G, but got -1.`,
    ],
    [
      { "spill-dir": "/tmp", "spill-size": 0 },
      {},
      undefined,
      "--spill-dir says where to keep what --spill-size 0 does not keep: leave one of them out.",
    ],
    [{}, {}, [], `${file} must hold one JSON object, such as {"port": 9338}.`],
    [
      { host: "0.0.0.0" },
      {},
      undefined,
      "--host 0.0.0.0 lets other machines in: set WEFT_API_KEYS, or add --insecure-no-auth if that is meant.",
    ],
  ] as const)("is refused in words: %j %j %j", (flags, env, json, message) => {
    expect(() => load(flags, env, json)).toThrow(expect.objectContaining({ name: "ConfigError", message }));
  });

  it("row 129: is refused when the file has a key nobody reads, is not JSON or is not there", () => {
    expect(() => load({}, {}, { slotz: 1 })).toThrow(
      `${file} has the unknown key "slotz"; did you mean "slots"?`,
    );
    expect(() => load({}, {}, { max_queued: 2 })).toThrow(
      `${file} has the unknown key "max_queued"; did you mean "max-queued"?`,
    );
    expect(() => load({}, {}, { temperature: 2 })).toThrow(
      `${file} has the unknown key "temperature"; the keys are the flags without their dashes, see --help`,
    );
    expect(() => load({}, {}, '{\n  "port": 1,\n}')).toThrow(
      `${file} is not JSON: Expected double-quoted property name at line 3, column 1.`,
    );
    expect(() => loadConfig({ flags: {}, env: {}, file: join(folder, "none.json") })).toThrow(
      /\(ENOENT\); check --config/,
    );
  });

  it("lets other machines in with a key, or when that is said to be meant", () => {
    expect(load({ host: "0.0.0.0" }, { WEFT_API_KEYS: "secret" }).values["api-key"]).toEqual(["secret"]);
    expect(load({ host: "::", "insecure-no-auth": true }, {}).values.host).toBe("::");
  });

  it("has one environment variable for each option", () => {
    expect(new Set(serveOptionNames.map(environmentName)).size).toBe(serveOptionNames.length);
    expect(environmentName("batch-size")).toBe("WEFT_BATCH_SIZE");
    expect(environmentName("api-key")).toBe("WEFT_API_KEYS");
  });

  it("has a default that the option itself would accept", () => {
    for (const name of serveOptionNames) {
      const { kind, default: fallback } = serveOptions[name];
      expect([name, fallback === undefined ? undefined : kind.read(fallback)]).toEqual([name, fallback]);
    }
  });
});

describe("a variable of a repeatable option", () => {
  const repeatable = serveOptionNames.filter((name) => serveOptions[name].kind.repeatable);
  const examples: Readonly<Record<string, readonly string[]>> = {
    lora: ["a=a.gguf:0.5", "b=b.gguf"],
    "request-default": ["temperature=0.5", "max_tokens=20"],
    "key-policy": ["anonymous:weight=2:running=4", "*:class=low"],
  };

  it.each(repeatable)("may be a JSON array: %s", (name) => {
    const items = examples[name] ?? ["one=1", "two=2"];
    const { values, sources } = load({}, { [environmentName(name)]: ` ${JSON.stringify(items, null, 1)}\n` });
    expect([values[name], sources[name]]).toEqual([load({ [name]: items }, {}).values[name], "env"]);
  });

  it("has commas within the texts of an array", () => {
    const env = { WEFT_API_KEYS: '["alice=a,long,secret","bob=another-secret"]' };
    expect(load({}, env).values["api-key"]).toEqual(["alice=a,long,secret", "bob=another-secret"]);
  });

  it.each(
    repeatable.flatMap((name) => ["[a,b]", '["a"', '["a",1]', '["a"],b'].map((raw) => [name, raw] as const)),
  )("is refused when it only begins like an array: %s %s", (name, raw) => {
    const shown = name === "api-key" || name === "admin-key" ? "something else" : JSON.stringify(raw);
    expect(() => load({}, { [environmentName(name)]: raw })).toThrow(
      expect.objectContaining({
        name: "ConfigError",
        message: `Expected ${environmentName(name)}, which begins with "[", to be a JSON array of texts, such as ["one", "two"], but got ${shown}.`,
      }),
    );
  });

  it("is refused when an item of the array is not what belongs there", () => {
    expect(() => load({}, { WEFT_REQUEST_DEFAULTS: '["heat=1"]' })).toThrow(
      /^Expected WEFT_REQUEST_DEFAULTS to be FIELD=VALUE, .* but got \["heat=1"\]\.$/,
    );
  });

  it("may begin with an IPv6 address", () => {
    expect(
      load({}, { WEFT_ALLOWED_HOSTS: "[::1],[2001:db8::7],weft.example" }).values["allowed-hosts"],
    ).toEqual(["[::1]", "[2001:db8::7]", "weft.example"]);
  });
});

describe("a key", () => {
  const digest = (key: string) => createHash("sha256").update(key).digest("hex");

  it.each([
    ["sk-secret", "key-1", "sk-secret"],
    ["alice=sk-secret", "alice", "sk-secret"],
    ["c2VjcmV0cw==", "key-1", "c2VjcmV0cw=="],
    ["c2VjcmV0=", "key-1", "c2VjcmV0="],
  ])("%s has a name for logs and is kept as a digest", (entry, name, key) => {
    expect(parseApiKeys([entry])).toEqual([{ name, sha256: digest(key) }]);
  });

  it("may be given as its digest", () => {
    const sha256 = digest("secret");
    expect(parseApiKeys([`ann=sha256:${sha256.toUpperCase()}`, `sha256:${sha256}`])).toEqual([
      { name: "ann", sha256 },
      { name: "key-2", sha256 },
    ]);
  });

  it("without a name has a name that no other key has", () => {
    expect(parseApiKeys(["key-2=a", "b"], "key").map(({ name }) => name)).toEqual(["key-2", "key-2-unnamed"]);
    expect(parseApiKeys(["a"], "admin")[0]?.name).toBe("admin-1");
  });

  it("is not shown when it stands where another option belongs", () => {
    for (const name of ["api-key", "admin-key"])
      expect(() => load({ [name]: 5 }, {})).toThrow("but got something else.");
  });
});

describe("an address", () => {
  it.each([
    ["127.0.0.1", true],
    ["127.1.2.3", true],
    ["localhost", true],
    ["::1", true],
    ["0.0.0.0", false],
    ["::", false],
    ["127.0.0.1.example.com", false],
    ["192.168.0.2", false],
  ])("%s is loopback: %s", (host, loopback) => {
    expect(isLoopback(host)).toBe(loopback);
  });
});
