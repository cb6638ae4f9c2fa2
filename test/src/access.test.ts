/** Who is let in, by which path, and what every answer carries. */
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { routedPath } from "../../src/http/path.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";

const ANSWER = {
  kind: "answer",
  steps: [{ tokens: [2], finish: { reason: "length", stopToken: undefined } }],
} as const;

const key = (name: string, secret: string) => ({
  name,
  sha256: createHash("sha256").update(secret).digest("hex"),
});
const SECRET = "sk-0123456789abcdefWXYZ";

describe("paths", () => {
  it.each([
    ["http://h/v1/models", "/models"],
    ["http://h/models/", "/models"],
    ["http://h//v1//models?x=//", "/models"],
    ["http://h/v1", "/v1"],
    ["http://h/v1x/models", "/v1x/models"],
    ["http://h/openai/v1/models", "/models"],
    ["http://h/openai/models?api-version=2024-10-21", "/models"],
    ["http://h/openai/deployments/a/chat/completions", "/deployments/a/chat/completions"],
    ["http://h/openai", "/openai"],
    ["http://h/openai/v1", "/v1"],
    ["http://h/openai.json", "/openai.json"],
    ["http://h/v1/openai/models", "/openai/models"],
    ["http://h/", "/"],
    ["http://h", "/"],
    ["http://h/v1%2Fmodels", "/v1%2Fmodels"],
  ])("%s is routed as %s", (url, path) => {
    expect(routedPath(url)).toBe(path);
  });

  it("that nobody serves are a 404 in OpenAI's shape", async () => {
    const { app } = createTestApp();
    for (const path of ["/v1/foo", "/v1%2Fmodels", "/V1/MODELS", "/api/tags"]) {
      expect((await app.request(path)).status).toBe(404);
    }
    expect(await (await app.request("/v1/foo", { method: "POST" })).json()).toEqual({
      error: {
        message: "Invalid URL (POST /v1/foo)",
        type: "invalid_request_error",
        param: null,
        code: null,
      },
    });
  });

  it.each([
    ["completions", { prompt: "a" }],
    ["chat/completions", { messages: [{ role: "user", content: "a" }] }],
  ])("of OpenAI's first API name the model: engines and %s", async (path, fields) => {
    const { app, engine } = createTestApp();
    engine.script = ANSWER;
    const ask = (model: string) =>
      app.request(`/v1/engines/${model}/${path}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...fields, max_tokens: 1 }),
      });
    expect(await (await ask(MODEL_ID)).json()).toMatchObject({ model: MODEL_ID });
    expect((await ask("nobody")).status).toBe(404);
  });

  it("with the wrong method are a 405 that names the right one", async () => {
    const { app } = createTestApp();
    const response = await app.request("/v1/chat/completions");
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
    expect(await response.json()).toMatchObject({
      error: { type: "invalid_request_error", param: null, code: null },
    });
    expect((await app.request("/v1/models", { method: "DELETE" })).headers.get("allow")).toBe(
      "GET, HEAD, OPTIONS",
    );
    expect((await app.request("/v1/models", { method: "HEAD" })).status).toBe(200);
  });
});

describe("models", () => {
  it("are listed with every name of the context length", async () => {
    const { app } = createTestApp();
    expect(await (await app.request("/v1/models")).json()).toMatchObject({
      object: "list",
      data: [
        {
          id: MODEL_ID,
          object: "model",
          created: 1_700_000_000,
          owned_by: "weft",
          root: MODEL_ID,
          parent: null,
          max_model_len: 256,
          context_length: 256,
          max_context_length: 256,
          meta: { n_ctx: 256, n_ctx_train: 512 },
        },
      ],
    });
  });

  it("are found by raw and encoded slashes and by alias, loading or not", async () => {
    const { app } = createTestApp({ model: { state: "loading", loaded: undefined } });
    for (const id of ["org/tiny", "org%2Ftiny", "tiny"]) {
      expect(await (await app.request(`/v1/models/${id}`)).json()).toMatchObject({
        id: MODEL_ID,
        status: "loading",
      });
    }
    const response = await app.request("/v1/models/no/such");
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      error: { message: "The model 'no/such' does not exist", param: "model", code: "model_not_found" },
    });
  });
});

describe("health", () => {
  const statuses = async (app: ReturnType<typeof createTestApp>["app"]): Promise<number[]> =>
    Promise.all(
      ["/health", "/healthz", "/livez", "/ready", "/readyz"].map(
        async (path) => (await app.request(path)).status,
      ),
    );

  it("tells ready, loading and draining apart", async () => {
    const ready = createTestApp();
    expect(await statuses(ready.app)).toEqual([200, 200, 200, 200, 200]);
    ready.lifecycle.leaving = true;
    expect(await statuses(ready.app)).toEqual([200, 200, 200, 503, 503]);
    ready.lifecycle.draining = true;
    expect(await statuses(ready.app)).toEqual([200, 200, 200, 503, 503]);
    expect(await (await ready.chat()).json()).toMatchObject({ error: { code: "server_draining" } });
    const loading = createTestApp({ model: { state: "loading", loaded: undefined } });
    expect(await statuses(loading.app)).toEqual([503, 503, 200, 503, 503]);
    expect((await loading.app.request("/health")).headers.get("retry-after")).toBe("2");
  });

  it("is degraded, not dead, while an engine is started again, since requests wait for it", async () => {
    const { app } = createTestApp({ model: { state: "restarting" } });
    expect(await statuses(app)).toEqual([200, 200, 200, 200, 200]);
    for (const path of ["/health", "/ready"])
      expect(await (await app.request(path)).json()).toEqual({ status: "degraded" });
    expect(await (await app.request("/metrics")).text()).toContain('weft_engine_up{model="org/tiny"} 0');
    const failed = createTestApp({ model: { state: "failed", loaded: undefined } });
    expect(await statuses(failed.app)).toEqual([503, 503, 200, 503, 503]);
  });
});

describe("the root", () => {
  const links = {
    models: "/v1/models",
    health: "/health",
    openapi: "/openapi.json",
    metrics: "/metrics",
  };

  it("says what this is and where to go on", async () => {
    const { app, log } = createTestApp();
    const response = await app.request("/");
    expect([response.status, await response.json()]).toEqual([
      200,
      { name: "weft", version: "0.0.0-test", links },
    ]);
    // Load balancers ask it, too.
    expect(log[0]).toMatchObject({ level: "debug", fields: { path: "/", status: 200 } });
    expect((await app.request("/", { method: "HEAD" })).status).toBe(200);
    const post = await app.request("/", { method: "POST" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);
    for (const path of Object.values(links)) expect((await app.request(path)).status).toBe(200);
  });

  it("is open without a key, and then leaves out what /version tells with one", async () => {
    const { app } = createTestApp({ config: { apiKeys: [key("ann", SECRET)] } });
    const response = await app.request("/");
    expect([response.status, await response.json()]).toEqual([200, { name: "weft", links }]);
  });
});

describe("keys", () => {
  const locked = () => createTestApp({ config: { apiKeys: [key("ann", SECRET), key("bob", "other")] } });

  it.each([
    { authorization: `Bearer ${SECRET}` },
    { authorization: `bearer ${SECRET}` },
    { "x-api-key": SECRET },
    { "api-key": SECRET },
  ])("are taken from %j and name the owner", async (headers) => {
    const { chat, engine, log } = locked();
    engine.script = ANSWER;
    expect((await chat({}, { headers })).status).toBe(200);
    expect(engine.submits[0]?.owner).toBe("ann");
    expect(log.at(-1)?.fields).toMatchObject({ owner: "ann" });
  });

  it("that are wrong or missing are a 401 that shows no key", async () => {
    const { chat, app, log } = locked();
    const wrong = await chat({}, { headers: { authorization: "Bearer sk-9999999999999999abcd" } });
    expect(wrong.status).toBe(401);
    expect(await wrong.json()).toEqual({
      error: {
        message: "Incorrect API key provided: sk-***abcd.",
        type: "invalid_request_error",
        param: null,
        code: "invalid_api_key",
      },
    });
    for (const path of ["/v1/models", "//v1/models", "/models/", "/metrics", "/slots", "/v1/nothing"]) {
      expect((await app.request(path)).status).toBe(401);
    }
    expect(JSON.stringify(log)).not.toContain("9999");
  });

  it("are not needed for health and preflights", async () => {
    const { app } = locked();
    for (const path of ["/health", "/healthz", "/livez", "/ready", "/readyz"]) {
      expect((await app.request(path)).status).toBe(200);
    }
    expect((await app.request("/v1/models", { method: "OPTIONS" })).status).toBe(200);
  });

  it("that nobody configured are not looked at", async () => {
    const { app } = createTestApp();
    expect((await app.request("/v1/models", { headers: { authorization: "Bearer none" } })).status).toBe(200);
  });
});

describe("management paths", () => {
  const PATHS = [
    "/slots",
    "/v1/slots",
    "/openai/v1/slots",
    "//slots/",
    "/metrics",
    "/props",
    "/debug/timeline",
    "/debug/pins",
    "/debug",
    "/admin/x",
  ];
  const bearer = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } });
  const managed = (apiKeys = [key("ann", SECRET), key("bob", "other")]) =>
    createTestApp({ config: { apiKeys, adminKeys: [key("ops", "root")] } });

  it("are open without any key, and to every key where there is no admin key", async () => {
    const open = createTestApp();
    const keyed = createTestApp({ config: { apiKeys: [key("ann", SECRET)] } });
    for (const path of ["/slots", "/metrics", "/props"]) {
      expect((await open.app.request(path)).status).toBe(200);
      expect((await keyed.app.request(path)).status).toBe(401);
      expect((await keyed.app.request(path, bearer(SECRET))).status).toBe(200);
    }
  });

  it("are open to admin keys alone where there is one, however they are written", async () => {
    const { app } = managed();
    for (const path of PATHS) {
      expect([path, (await app.request(path)).status]).toEqual([path, 401]);
      expect((await app.request(path, bearer("wrong"))).status).toBe(401);
      const refused = await app.request(path, bearer(SECRET));
      expect(refused.status).toBe(403);
      expect(await refused.json()).toMatchObject({ error: { code: "key_not_allowed" } });
      expect([200, 404, 503]).toContain((await app.request(path, bearer("root"))).status);
    }
    expect((await app.request("/slots", bearer("root"))).status).toBe(200);
    expect((await app.request("/%73lots", bearer(SECRET))).status).toBe(404);
    // What only begins like one of them is none.
    expect((await app.request("/slotsx", bearer(SECRET))).status).toBe(404);
  });

  it("are no way to the others: an admin key opens nothing else", async () => {
    const { app, chat } = managed();
    for (const path of ["/version", "/openapi.json", "/tokenizer_info"]) {
      expect((await app.request(path, bearer("root"))).status).toBe(403);
      expect((await app.request(path, bearer(SECRET))).status).toBe(200);
    }
    expect((await chat({}, bearer("root"))).status).toBe(403);
    const keyless = managed([]);
    keyless.engine.script = ANSWER;
    expect((await keyless.chat()).status).toBe(200);
    expect((await keyless.app.request("/slots")).status).toBe(401);
  });

  it("are lists that every key may read, too: of models and of adapters", async () => {
    const { app, post } = managed();
    for (const path of ["/v1/models", "/models/tiny", "/v1/lora-adapters", "//lora-adapters/"]) {
      for (const secret of ["root", SECRET])
        expect((await app.request(path, bearer(secret))).status).toBe(200);
      expect((await app.request(path, { ...bearer("root"), method: "HEAD" })).status).toBe(200);
      expect((await app.request(path)).status).toBe(401);
      expect((await app.request(path, bearer("wrong"))).status).toBe(401);
    }
    expect((await post("/v1/models", {}, bearer("root"))).status).toBe(403);
  });

  it("are those by which answers of others change: to admins alone where there are several keys", async () => {
    const post = async (app: ReturnType<typeof managed>, secret?: string): Promise<[number, string?]> => {
      const init = secret === undefined ? {} : bearer(secret);
      const response = await app.post("/v1/lora-adapters", [], init);
      const { error } = (await response.json()) as { error?: { code: string } };
      return error === undefined ? [response.status] : [response.status, error.code];
    };
    expect(await post(managed(), "root")).toEqual([200]);
    expect(await post(managed(), SECRET)).toEqual([403, "key_not_allowed"]);
    expect((await managed().app.request("/lora-adapters", bearer(SECRET))).status).toBe(200);
    const several = createTestApp({ config: { apiKeys: [key("ann", SECRET), key("bob", "other")] } });
    expect(await post(several, SECRET)).toEqual([403, "key_not_allowed"]);
    const one = createTestApp({ config: { apiKeys: [key("ann", SECRET)] } });
    expect(await post(one, SECRET)).toEqual([200]);
    expect(await post(createTestApp())).toEqual([200]);
  });

  it("tell admins whose each request is, and others not where there are several", async () => {
    const shown = async (app: ReturnType<typeof createTestApp>["app"], secret: string): Promise<unknown> =>
      (await app.request("/slots", bearer(secret))).json();
    expect(await shown(managed().app, "root")).toMatchObject([{ owner: "anonymous" }]);
    const several = createTestApp({ config: { apiKeys: [key("ann", SECRET), key("bob", "other")] } });
    expect(JSON.stringify(await shown(several.app, SECRET))).not.toContain("owner");
  });
});

describe("browsers", () => {
  it("get their preflight reflected, before any key", async () => {
    const { app } = createTestApp({ config: { apiKeys: [key("ann", SECRET)] } });
    const response = await app.request("/v1/chat/completions", {
      method: "OPTIONS",
      headers: {
        origin: "http://localhost:5173",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-lang",
      },
    });
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "access-control-allow-origin": "http://localhost:5173",
      "access-control-allow-headers": "authorization,x-stainless-lang",
    });
    const patch = { origin: "http://localhost", "access-control-request-method": "PATCH" };
    const change = await app.request("/v1/requests/x", { method: "OPTIONS", headers: patch });
    expect(change.headers.get("access-control-allow-methods")?.split(",")).toContain("PATCH");
  });

  it("may read our headers, on errors too", async () => {
    const { app } = createTestApp();
    const response = await app.request("/v1/models/none", { headers: { origin: "http://127.0.0.1:3000" } });
    expect(response.headers.get("access-control-allow-origin")).toBe("http://127.0.0.1:3000");
    expect(response.headers.get("access-control-expose-headers")).toBe(
      "x-request-id,retry-after,retry-after-ms,x-should-retry,openai-processing-ms," +
        "x-ratelimit-limit-requests,x-ratelimit-limit-tokens,x-ratelimit-remaining-requests," +
        "x-ratelimit-remaining-tokens,x-ratelimit-reset-requests,x-ratelimit-reset-tokens,x-weft-ignored-params",
    );
  });

  it.each([
    ["http://localhost:1", 200],
    ["https://app.localhost", 200],
    ["http://[::1]:8080", 200],
    ["tauri://localhost", 200],
    ["vscode-webview://abc", 200],
    ["https://chat.example", 200],
    ["https://evil.example", 403],
    ["http://localhost.evil.com", 403],
    ["http://127.0.0.1.evil.com", 403],
    ["null", 403],
  ])("from %s get %i", async (origin, status) => {
    const { app } = createTestApp({ config: { corsOrigins: ["https://chat.example"] } });
    expect((await app.request("/v1/models", { headers: { origin } })).status).toBe(status);
  });

  it.each([
    ["localhost:9338", 200],
    ["127.0.0.1", 200],
    ["[::1]:9338", 200],
    ["weft.localhost", 200],
    ["my.box:9338", 200],
    ["evil.example", 403],
    ["localhost.evil.com:9338", 403],
    ["a b", 403],
  ])("that call a loopback server %s get %i", async (host, status) => {
    const { app } = createTestApp({ config: { allowedHosts: ["my.box"] } });
    expect((await app.request("/v1/models", { headers: { host } })).status).toBe(status);
    const open = createTestApp({ config: { loopback: false } });
    expect((await open.app.request("/v1/models", { headers: { host } })).status).toBe(200);
  });
});

describe("request ids", () => {
  it("are the client's when sane, else our own", async () => {
    const { app } = createTestApp();
    const idFor = async (id: string): Promise<string | null> =>
      (await app.request("/version", { headers: { "x-request-id": id } })).headers.get("x-request-id");
    expect(await idFor("abc-1.2_3")).toBe("abc-1.2_3");
    expect(await idFor("a b")).toBe("req_1");
    expect(await idFor("x".repeat(129))).toBe("req_2");
  });
});

describe("the log", () => {
  it("has one line per request and never its text", async () => {
    const { chat, engine, log } = createTestApp();
    engine.script = ANSWER;
    await (await chat({ stream: true, messages: [{ role: "user", content: "my secret" }] })).text();
    expect(log).toHaveLength(1);
    expect(log[0]?.fields).toMatchObject({
      requestId: "req_1",
      method: "POST",
      path: "/v1/chat/completions",
      status: 200,
      outcome: "ok",
      model: MODEL_ID,
      promptTokens: 9,
      outputTokens: 1,
      cachedTokens: 1,
      queueMs: 0,
      ttftMs: 0,
      finish: "length",
    });
    expect(JSON.stringify(log)).not.toMatch(/secret|Hel/);
  });

  it.each([
    ["/v1/models", "/v1/models"],
    ["/models?x=secret", "/models"],
    ["//openai//v1/models/", "//openai//v1/models/"],
    ["/v1/no%20such", "/v1/no%20such"],
  ])("has paths as they were asked for, without queries: %s", async (url, path) => {
    const { app, log } = createTestApp();
    await app.request(`http://localhost${url}`);
    expect(log[0]?.fields).toMatchObject({ path });
  });

  it.each([
    ["owner_queue_full", "limited"],
    ["queue_full", "overloaded"],
    ["deadline_exceeded", "late"],
  ] as const)("tells %s from mistakes of the client and of the server: %s", async (code, outcome) => {
    const { chat, engine, log, deps } = createTestApp();
    engine.script = { kind: "fail", code };
    await (await chat()).text();
    await (await chat({ stream: true })).text();
    expect(log.map(({ fields }) => fields["outcome"]).filter(Boolean)).toEqual([outcome, outcome]);
    const total = `weft_requests_total{endpoint="chat",outcome="${outcome}"} 2\n`;
    expect(await deps.metrics.render(deps.models)).toContain(total);
  });

  it("has the code that the client sees, and ours where several have that one", async () => {
    const { chat, engine, log, deps } = createTestApp();
    engine.script = { kind: "fail", code: "owner_queue_full" };
    const { error } = (await (await chat()).json()) as { error: { code: string } };
    expect(error.code).toBe("rate_limit_exceeded");
    expect(log[0]?.fields).toMatchObject({ error: "rate_limit_exceeded", reason: "request_limit_exceeded" });
    expect((await chat({ model: "nobody" })).status).toBe(404);
    expect(log[1]?.fields).toMatchObject({ error: "model_not_found", reason: undefined });
    expect(await deps.metrics.render(deps.models)).toContain(
      'weft_rejections_total{reason="request_limit_exceeded"} 1',
    );
  });
});

describe("metrics", () => {
  it("count what happened under our names, vLLM's and llama-server's, with no client text", async () => {
    const { chat, engine, app, deps } = createTestApp();
    engine.script = ANSWER;
    await chat();
    await chat({ model: "client-text" });
    deps.metrics.observeStep(MODEL_ID, {
      planMs: 1,
      decodeMs: 2,
      sampleMs: 1,
      prefillMs: 0,
      decodeSequences: 1,
      prefillTokens: 16,
      passes: 3,
      running: 1,
      queued: 0,
      usedCells: 1,
      spill: {
        saved: 3,
        restored: 2,
        restoredTokens: 40,
        dropped: 1,
        saveFailures: 0,
        restoreFailures: 1,
        ms: 5,
      },
      plugs: 2,
      stepMs: 40,
      gapMs: 3,
      copies: 2,
      lost: { prompt: 3, file: 1 },
      recomputed: 17,
      evictions: { share: 2, own: 1 },
      freedMs: [30],
      decodeRatio: 1.02,
      prefillRatio: 0.7,
      guessesRight: 5,
      guessesWrong: 3,
      modelGuessesRight: 4,
      modelGuessesWrong: 1,
      draftMs: 2,
    });
    const text = await (await app.request("/metrics")).text();
    for (const line of [
      'weft_requests_running{model="org/tiny"} 1',
      'weft_requests_waiting{model="org/tiny"} 3',
      'weft_slots{model="org/tiny",state="decode"} 1',
      'weft_requests_total{endpoint="chat",outcome="ok"} 1',
      'weft_requests_total{endpoint="chat",outcome="client_error"} 1',
      'weft_rejections_total{reason="model_not_found"} 1',
      'weft_tokens_total{model="org/tiny",kind="prompt_reused"} 1',
      'weft_tokens_total{model="org/tiny",kind="output"} 1',
      'weft_device_passes_total{model="org/tiny"} 3',
      'weft_step_seconds_count{model="org/tiny",kind="decode"} 1',
      'weft_step_seconds_count{model="org/tiny",kind="spill"} 1',
      'weft_spill_operations_total{model="org/tiny",kind="saved"} 3',
      'weft_spill_operations_total{model="org/tiny",kind="restore_failed"} 1',
      'weft_spill_restored_tokens_total{model="org/tiny"} 40',
      'weft_spill_prefixes{model="org/tiny"} 2',
      'weft_spill_tokens{model="org/tiny"} 30',
      'weft_spill_bytes{model="org/tiny"} 900',
      'weft_spill_limit_bytes{model="org/tiny"} 1000',
      'weft_step_seconds_sum{model="org/tiny",kind="draft"} 0.002',
      'weft_tokens_total{model="org/tiny",kind="plug"} 2',
      'weft_tokens_total{model="org/tiny",kind="recomputed"} 17',
      'weft_step_seconds_sum{model="org/tiny",kind="whole"} 0.04',
      'weft_passes_per_call_bucket{le="2",model="org/tiny"} 0',
      'weft_passes_per_call_bucket{le="3",model="org/tiny"} 1',
      'weft_device_gap_seconds_sum{model="org/tiny"} 0.003',
      'weft_slot_copies_total{model="org/tiny"} 2',
      'weft_evictions_total{model="org/tiny",kind="class"} 0',
      'weft_evictions_total{model="org/tiny",kind="share"} 2',
      'weft_evictions_total{model="org/tiny",kind="own"} 1',
      'weft_evictions_total{model="org/tiny",kind="paused"} 0',
      'weft_slot_prefixes_lost_total{model="org/tiny",by="prompt"} 3',
      'weft_slot_prefixes_lost_total{model="org/tiny",by="file"} 1',
      'weft_cancel_seconds_sum{model="org/tiny"} 0.03',
      'weft_reused_prompt_tokens_total{model="org/tiny",source="slot"} 1',
      'weft_batch_sequences_bucket{le="1",model="org/tiny"} 1',
      'weft_batch_tokens_count{model="org/tiny"} 1',
      'weft_cost_model_ratio_bucket{le="1",model="org/tiny",kind="decode"} 0',
      'weft_cost_model_ratio_bucket{le="1.05",model="org/tiny",kind="decode"} 1',
      'weft_cost_model_ratio_bucket{le="0.8",model="org/tiny",kind="prefill"} 1',
      'weft_queued_prompt_tokens{model="org/tiny"} 12',
      'weft_owner_service_gap_tokens{model="org/tiny"} 7.5',
      'weft_goodput_requests_total{model="org/tiny"} 1',
      'weft_normalized_latency_seconds_count{model="org/tiny"} 1',
      'weft_guessed_tokens_total{model="org/tiny",source="text",outcome="right"} 1',
      'weft_guessed_tokens_total{model="org/tiny",source="text",outcome="wrong"} 2',
      'weft_guessed_tokens_total{model="org/tiny",source="draft_model",outcome="right"} 4',
      'weft_guessed_tokens_total{model="org/tiny",source="draft_model",outcome="wrong"} 1',
      'weft_build_info{version="0.0.0-test"} 1',
      'vllm:num_requests_running{model_name="org/tiny",engine="0"} 1',
      'vllm:num_requests_waiting{model_name="org/tiny",engine="0"} 3',
      'vllm:prompt_tokens_total{model_name="org/tiny",engine="0"} 2',
      'vllm:request_success_total{model_name="org/tiny",engine="0",finished_reason="length"} 1',
      'weft_e2e_seconds_count{model="org/tiny",finish_reason="length"} 1',
      'vllm:cache_config_info{model_name="org/tiny",engine="0",block_size="1",num_gpu_blocks="512"} 1',
      "# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 1",
      "llamacpp:prompt_tokens_cached_total 1",
      "llamacpp:prompt_seconds_total 0.01",
      "llamacpp:tokens_predicted_total 1",
      "llamacpp:n_decode_total 2",
      "llamacpp:n_tokens_max 5",
      "llamacpp:prompt_tokens_seconds 100",
      "llamacpp:predicted_tokens_seconds 0",
      "llamacpp:requests_processing 1",
      "llamacpp:requests_deferred 3",
      "llamacpp:n_busy_slots_per_decode 1",
      "llamacpp:spec_decode_num_drafts_total 1",
      "llamacpp:spec_decode_num_draft_tokens_total 8",
      "llamacpp:spec_decode_num_accepted_tokens_total 5",
    ]) {
      expect(`${text}\n`).toContain(`${line}\n`);
    }
    const again = await app.request("/metrics");
    expect(Number(again.headers.get("process-start-time-unix"))).toBeGreaterThan(1_700_000_000);
    // Looked at twice, loads are no sum.
    expect(await again.text()).toContain("llamacpp:requests_processing 1\n");
    expect(text).not.toContain("client-text");
  });
});

describe("inspection", () => {
  it("shows slots, and owners only where there is one key or none", async () => {
    const open = createTestApp();
    expect(await (await open.app.request("/slots")).json()).toEqual([
      {
        id: 0,
        state: "decode",
        is_processing: true,
        n_ctx: 256,
        n_tokens: 5,
        n_prompt_tokens: 4,
        n_cached_tokens: 0,
        n_decoded: 1,
        request_id: "r",
        owner: "anonymous",
        speculative: false,
      },
    ]);
    const shared = createTestApp({ config: { apiKeys: [key("ann", SECRET), key("bob", "other")] } });
    const response = await shared.app.request("/slots", { headers: { "x-api-key": SECRET } });
    expect(JSON.stringify(await response.json())).not.toContain("owner");
  });

  it("refuses by name to save, restore and erase slots", async () => {
    const { post } = createTestApp();
    for (const action of ["save", "restore", "erase"]) {
      const response = await post(`/slots/0?action=${action}`, { filename: "../x" });
      expect([response.status, await response.json()]).toMatchObject([
        400,
        { error: { code: "unsupported_parameter", param: "action" } },
      ]);
    }
  });

  it("tells version, settings and limits", async () => {
    const { app } = createTestApp();
    expect(await (await app.request("/version")).json()).toEqual({ version: "0.0.0-test" });
    expect(await (await app.request("/props")).json()).toMatchObject({
      default_generation_settings: { n_ctx: 256 },
      total_slots: 2,
      model_path: "tiny.gguf",
      draft_model: null,
      limits: { body_bytes: 8_388_608 },
    });
  });

  it("tells of a draft model", async () => {
    const draft = { name: "small", parameters: 5, sizeBytes: 6, contextBytes: 7 };
    const { app, engine } = createTestApp({ facts: { draft } });
    expect(await (await app.request("/props")).json()).toMatchObject({
      draft_model: { name: "small", n_params: 5, size: 6, context_bytes: 7 },
    });
    engine.statsToo = { drafting: true };
    expect(await (await app.request("/slots")).json()).toMatchObject([{ speculative: true }]);
    engine.statsToo = { drafting: false };
    expect(await (await app.request("/slots")).json()).toMatchObject([{ speculative: false }]);
  });
});
