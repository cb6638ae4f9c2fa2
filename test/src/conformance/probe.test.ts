/** Which answers the checks take for good ones. */
import { describe, expect, it } from "vitest";
import { CheckFailure } from "../../../src/conformance/check.ts";
import { okJson } from "../../../src/conformance/probe.ts";

const answer = (text: string) => ({
  status: 200,
  headers: new Headers({ "content-type": "application/json" }),
  text,
});

describe("a whole answer", () => {
  it("has no key named error, but for a response, where it is null", () => {
    expect(okJson(answer('{"object":"response","error":null}'))).toEqual({ object: "response", error: null });
    expect(okJson(answer('{"object":"chat.completion"}'))).toEqual({ object: "chat.completion" });
    for (const text of ['{"object":"chat.completion","error":null}', '{"object":"response","error":{}}']) {
      expect(() => okJson(answer(text))).toThrow(CheckFailure);
    }
  });
});
