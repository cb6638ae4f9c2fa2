import { describe, expect, it } from "vitest";
import { StalledWrites } from "../../../src/http/stalled-writes.ts";

/** A socket that has been given so many bytes, of which so many wait. */
const socket = () => ({ bytesWritten: 0, writableLength: 0 });

describe("stalled writes", () => {
  it("are told after the limit without a byte taken, however much is added meanwhile", () => {
    const watch = new StalledWrites(3000);
    const client = socket();
    const told = Array.from({ length: 6 }, (_, second) => {
      client.bytesWritten = 500 + second;
      client.writableLength = 100 + second;
      return watch.tick([client], 1000).length;
    });
    expect(told).toEqual([0, 0, 0, 0, 1, 1]);
  });

  it("are none while a byte is taken now and then, or nothing waits", () => {
    const watch = new StalledWrites(3000);
    const [slow, idle] = [socket(), socket()];
    slow.bytesWritten = 1000;
    const told = Array.from({ length: 20 }, (_, second) => {
      slow.writableLength = 900 - Math.floor(second / 3);
      return watch.tick([slow, idle], 1000).length;
    });
    expect(Math.max(...told)).toBe(0);
  });
});
