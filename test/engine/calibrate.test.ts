/** What calls cost is measured once: an engine that takes the place of another one is told. */
import { expect, test } from "vitest";
import { costOf } from "../../engine/calibrate.ts";
import { FakeBackend } from "../../engine/fake/backend.ts";

/** A device whose calls cost nobody knows. */
function unmeasured(fingerprint: string, slots = 4): FakeBackend {
  const backend = new FakeBackend({ slots });
  const facts = { ...backend.facts, fingerprint };
  return Object.defineProperties(backend, { cost: { value: undefined }, facts: { value: facts } });
}

test("what another engine has measured of the same model is not measured again", async () => {
  const first = unmeasured("one");
  const { cost, measured } = await costOf(first);
  expect(first.calls.length).toBeGreaterThan(0);
  const next = unmeasured("one");
  expect(await costOf(next, [...(await costOf(unmeasured("two"))).measured, ...measured])).toEqual({
    cost,
    measured,
  });
  expect(next.calls).toEqual([]);
});

test("of another model, or for more slots, all is measured", async () => {
  const { measured } = await costOf(unmeasured("one"));
  for (const other of [unmeasured("two"), unmeasured("one", 8)]) {
    const { cost } = await costOf(other, measured);
    expect(other.calls.length).toBeGreaterThan(0);
    expect(cost.decodePassMs).toHaveLength(other.facts.slots + 1);
  }
});

test("adapters are part of what was measured", async () => {
  const { measured } = await costOf(unmeasured("one"));
  const adapted = unmeasured("one");
  const adapters = [{ fingerprint: "pirate" }];
  Object.defineProperty(adapted, "facts", { value: { ...adapted.facts, adapters } });
  expect((await costOf(adapted, measured)).measured).toMatchObject([{ of: "one pirate" }]);
  expect(adapted.calls.length).toBeGreaterThan(0);
});

test("a prompt's cell and a token are measured behind others as well, where a slot has room for them", async () => {
  const deep = unmeasured("one");
  const { prefillCellsMs, decodeCellsMs } = (await costOf(deep)).cost;
  expect(prefillCellsMs).toBeGreaterThanOrEqual(0);
  expect(decodeCellsMs).toBeGreaterThanOrEqual(0);
  const short = unmeasured("one");
  Object.defineProperty(short, "facts", {
    value: { ...short.facts, contextTokens: 2 * short.facts.prefillChunk },
  });
  const shallow = (await costOf(short)).cost;
  expect([shallow.prefillCellsMs, shallow.decodeCellsMs]).toEqual([undefined, undefined]);
  expect(short.calls.length).toBeLessThan(deep.calls.length);
});
