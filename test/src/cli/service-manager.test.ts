/** What systemd is told, and when. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { ServiceManager } from "../../../src/cli/service-manager.ts";

afterEach(() => vi.useRealTimers());

function manager(env: Record<string, string>, fails = false) {
  const told: (readonly string[])[] = [];
  const warnings: string[] = [];
  const service = new ServiceManager({
    env,
    pid: 42,
    log: { warn: (_, message) => void warnings.push(message) },
    run: async (assignments) => {
      told.push(assignments);
      if (fails) throw new Error("ENOENT");
    },
  });
  return { service, told, warnings };
}

const SOCKET = { NOTIFY_SOCKET: "/run/systemd/notify" };

describe("systemd", () => {
  it("is told that the server is ready and stopping, where it asks", async () => {
    const { service, told } = manager(SOCKET);
    await service.ready("Serving pocket.");
    await service.stopping();
    service.close();
    expect(told).toEqual([
      ["READY=1", "STATUS=Serving pocket."],
      ["STOPPING=1", "STATUS=Finishing the requests that run."],
    ]);
  });

  it("is told nothing where it does not ask", async () => {
    const { service, told } = manager({ WATCHDOG_USEC: "1000000" });
    await service.ready("Serving.");
    await service.stopping();
    expect(told).toEqual([]);
  });

  it.each([
    [{ WATCHDOG_USEC: "30000000" }, 4],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "42" }, 4],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "43" }, 0],
    [{ WATCHDOG_USEC: "0" }, 0],
    [{ WATCHDOG_USEC: "soon" }, 0],
    [{}, 0],
  ])("hears twice in each period of its watchdog that the server lives: %j", async (env, times) => {
    vi.useFakeTimers();
    const { service, told } = manager({ ...SOCKET, ...env });
    await service.ready("Serving.");
    vi.advanceTimersByTime(60_000);
    service.close();
    vi.advanceTimersByTime(60_000);
    expect(told.slice(1)).toEqual(Array.from({ length: times }, () => ["WATCHDOG=1"]));
  });

  it("that cannot be told stops nothing and is complained of once", async () => {
    const { service, warnings } = manager(SOCKET, true);
    await service.ready("Serving.");
    await service.stopping();
    expect(warnings).toEqual(["systemd cannot be told how the server is; is systemd-notify installed?"]);
  });
});
