/** Checks of the model list and of what every HTTP answer carries. */
import { must, mustBe, show } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import { itemOf, mustBeError, okJson } from "../probe.ts";

export const modelChecks: readonly ConformanceCheck[] = [
  {
    name: "models: list",
    run: async (probe) => {
      const list = okJson(await probe.request("/v1/models"));
      mustBe("object", list["object"], "list");
      const model = itemOf(list, "data");
      mustBe("data[0].object", model["object"], "model");
      must(typeof model["id"] === "string", `data[0].id is ${show(model["id"])}`);
      must(Number.isInteger(model["created"]), `data[0].created is ${show(model["created"])}`);
      must(typeof model["owned_by"] === "string", `data[0].owned_by is ${show(model["owned_by"])}`);
    },
  },
  {
    name: "models: one by its name",
    run: async (probe) => {
      const model = okJson(await probe.request(`/v1/models/${encodeURIComponent(probe.model)}`));
      mustBe("id", model["id"], probe.model);
      mustBe("object", model["object"], "model");
    },
  },
  {
    name: "models: an unknown name is 404",
    run: async (probe) => void mustBeError(await probe.request("/v1/models/no-such-model"), 404),
  },
  {
    name: "http: unknown path is 404 with an error object",
    run: async (probe) => void mustBeError(await probe.post("/v1/no-such-path", {}), 404),
  },
  {
    name: "http: wrong method is 405 with an error object",
    run: async (probe) => void mustBeError(await probe.request("/v1/chat/completions"), 405),
  },
  {
    name: "http: a browser may ask from localhost",
    run: async (probe) => {
      const asked = ["authorization", "content-type", "x-stainless-os", "x-stainless-retry-count"];
      const { status, headers } = await probe.request("/v1/chat/completions", {
        method: "OPTIONS",
        headers: {
          origin: "http://localhost:3000",
          "access-control-request-method": "POST",
          "access-control-request-headers": asked.join(","),
        },
      });
      must(status === 200 || status === 204, `status ${status}`);
      const allowed = headers.get("access-control-allow-headers")?.toLowerCase() ?? "";
      const missing = asked.filter((name) => allowed !== "*" && !allowed.split(/, */).includes(name));
      must(missing.length === 0, `headers not allowed: ${missing.join(", ")}`);
      must(headers.has("access-control-allow-origin"), "no access-control-allow-origin");
    },
  },
  {
    name: "http: answers carry x-request-id",
    run: async (probe) => {
      const { headers } = await probe.chat();
      must(headers.has("x-request-id"), "no x-request-id header");
    },
  },
];
