/** Two replicas behind one balancer, restarted in turns under load: row 110 of the fault matrix. */
import { expect, onTestFinished, test } from "vitest";
import { startBalancer } from "../../support/balancer.ts";
import { freePort, startServer } from "../../support/server.ts";
import type { RunningServer } from "../../support/server.ts";

/** Of both replicas together; twenty are asked of a release. */
const RESTARTS = Number(process.env["WEFT_ROLLING_RESTARTS"] ?? 4);
const CLIENTS = 8;

test(`row 110: ${RESTARTS} rolling restarts behind a balancer that never asks twice fail no request`, async () => {
  const ports = [await freePort(), await freePort()];
  // The engine's own kernels for one slot and for several differ in the last bits for pocket's weights.
  const start = (port: number): Promise<RunningServer> =>
    startServer("--port", String(port), "--slots", String(CLIENTS), "--deterministic", "--drain-settle", "2");
  const replicas = await Promise.all(ports.map(start));
  onTestFinished(() => Promise.all(replicas.map((replica) => replica.kill())).then(() => undefined));
  const balancer = await startBalancer(ports);
  onTestFinished(() => balancer.close());
  await balancer.untilReady(2);

  const ask = async (i: number): Promise<string> => {
    const stream = i % 2 === 0;
    const body = {
      model: "pocket",
      prompt: `${i}, ${i + 1},`,
      max_tokens: 40,
      ignore_eos: true,
      temperature: 0,
    };
    const answer = await fetch(`${balancer.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, stream }),
    });
    const said = await answer.text();
    expect(`${answer.status} ${said}`).toMatch(/^200 [^]*"finish_reason":"length"/);
    if (stream) expect(said.endsWith("data: [DONE]\n\n")).toBe(true);
    return Array.from(said.matchAll(/"text":"((?:[^"\\]|\\.)*)"/g), ([, piece]) => piece).join("");
  };
  const truth: string[] = [];
  for (let i = 0; i < CLIENTS; i++) truth.push(await ask(i));
  const over = new AbortController();
  let answered = 0;
  const client = async (i: number): Promise<void> => {
    while (!over.signal.aborted) {
      expect(await ask(i)).toBe(truth[i]);
      answered += 1;
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)));
  const restarts = async (): Promise<void> => {
    for (let restart = 0; restart < RESTARTS; restart++) {
      const which = restart % 2;
      const before = balancer.sent();
      expect(await replicas[which]?.stop()).toBe(0);
      replicas[which] = await start(ports[which] ?? 0);
      await balancer.untilReady(2);
      // Both have been at work.
      await expect
        .poll(() => balancer.sent()[which], { timeout: 60_000 })
        .toBeGreaterThan(before[which] ?? 0);
    }
  };
  // A client that fails is told at once.
  await Promise.race([restarts(), clients]).finally(() => over.abort());
  await clients;
  expect(answered).toBeGreaterThan(CLIENTS * RESTARTS);
  for (const replica of replicas) expect(await replica.stop()).toBe(0);
});
