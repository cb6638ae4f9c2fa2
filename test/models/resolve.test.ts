import { copyFileSync, mkdirSync, mkdtempSync, rmSync, rmdirSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { catalogue } from "../../models/catalogue.ts";
import { packageRoot } from "../../models/package-root.ts";
import { resolveModel } from "../../models/resolve.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-resolve-"));
afterAll(() => rmSync(folder, { recursive: true }));
const env = { WEFT_CACHE: folder, WEFT_OFFLINE: "1" };
const pocket = join(packageRoot, "models/pocket.gguf");

describe("a model name", () => {
  it("may be one of the catalogue", async () => {
    const model = await resolveModel("pocket", { env });
    expect(model).toMatchObject({ id: "pocket", path: pocket, aliases: [], source: "embedded" });
    expect(model.createdSeconds).toBeGreaterThan(1_700_000_000);
  });

  it("may be a path, served by the name of the file", async () => {
    const path = join(folder, "My-Model.Q4_K_M.gguf");
    copyFileSync(pocket, path);
    expect(await resolveModel(path, { env })).toMatchObject({ id: "My-Model.Q4_K_M", path, source: "file" });
  });

  it("may be chosen in front of it", async () => {
    expect(await resolveModel("chat=pocket", { env })).toMatchObject({
      id: "chat",
      path: pocket,
      aliases: ["pocket"],
    });
  });

  it.each([
    "nope",
    "./nope.gguf",
    "hf:",
    "hf:one",
    "hf:../../x",
    "hf:a/b/../../../x.gguf",
    "hf:a/b:Q4/x",
    "hf:a/b/c.txt",
    "hf:a/b/c\n.gguf",
    "hf:a/b\u0000",
    `hf:a/${"b".repeat(300)}`,
    packageRoot,
  ])("that means nothing is refused: %j", async (name) => {
    await expect(resolveModel(name, { env })).rejects.toMatchObject({
      name: "ModelFileError",
      code: "model_not_found",
    });
  });

  it.each([
    ["./nope.gguf", `There is no file "./nope.gguf" (${resolve("nope.gguf")}).`],
    ["/nope/x", 'There is no file "/nope/x".'],
    ["models/nope.gguf", `There is no file "models/nope.gguf" (${resolve("models/nope.gguf")}).`],
    ["models", '"models" is a folder; give the path of a .gguf file in it.'],
    [
      "bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
      'There is no file "bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M". If it is on Hugging Face, put hf: in front: hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M',
    ],
    [
      "smolm2",
      'There is no model "smolm2". Did you mean smollm2? Give the path of a .gguf file, hf:org/repo:QUANT, or one of: pocket, pocket-draft, smollm2.',
    ],
  ])("that is not there is refused with what may have been meant: %s", async (name, message) => {
    await expect(resolveModel(name, { env })).rejects.toMatchObject({ message });
  });

  it("whose file has gone from the cache or the package is refused with the path and what to do", async () => {
    const cache = join(folder, "models");
    const hub = join(cache, "org--gone");
    mkdirSync(hub, { recursive: true });
    symlinkSync(join(folder, "gone"), join(hub, "model.gguf"));
    await expect(resolveModel("hf:org/gone", { env })).rejects.toMatchObject({
      message: `hf:org/gone was fetched before, and ${join(hub, "model.gguf")} is not a file. Delete ${hub} and try again.`,
    });

    const published = join(cache, "SmolLM2-135M-Instruct.Q4_1.gguf");
    mkdirSync(published);
    await expect(resolveModel("smollm2", { env })).rejects.toMatchObject({
      code: "model_not_found",
      message: `smollm2 was fetched before, and ${published} is not a file. Delete ${published} and try again.`,
    });
    rmdirSync(published);

    vi.resetModules();
    vi.doMock("../../models/package-root.ts", () => ({ packageRoot: folder }));
    const broken = await import("../../models/resolve.ts");
    vi.doUnmock("../../models/package-root.ts");
    await expect(broken.resolveModel("pocket", { env })).rejects.toMatchObject({
      code: "model_not_found",
      message: `The model pocket is part of Weft, and ${join(folder, "models/pocket.gguf")} is not there. Install Weft again.`,
    });
  });

  it("that would have to be fetched is refused while the network is off", async () => {
    for (const name of [
      "smollm2",
      "hf:org/repo:Q4_K_M",
      "hf:org/repo/sub/file.gguf",
      "hf:org/repo/a b+1.GGUF",
    ]) {
      await expect(resolveModel(name, { env })).rejects.toMatchObject({ code: "download_failed" });
    }
  });
});

describe("the catalogue", () => {
  it("can check every file it fetches", () => {
    for (const { id, source } of catalogue) {
      expect([id, source.kind === "embedded" || /^[0-9a-f]{64}$/.test(source.sha256)]).toEqual([id, true]);
    }
  });
});
