/** The listening socket: timeouts against slow clients, and a shutdown that loses no running request. */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { getRequestListener, RequestError } from "@hono/node-server";
import type { Limits } from "./config/limits.ts";
import type { Lifecycle } from "./deps.ts";
import { connectionErrorAnswer, unreadableRequest } from "./http/connection-errors.ts";
import { errorReply } from "./http/reply.ts";
import { StalledWrites } from "./http/stalled-writes.ts";

/** How often the sockets are looked at for clients that send too slowly. */
const SLOW_TICK_MS = 1000;
/** Longer than the 60 s after which common proxies close idle connections, so that they close first. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;
/** While draining, idle sockets are closed this often: a keep-alive client may become idle at any time. */
const IDLE_SWEEP_MS = 200;

/** Refusals that may wait behind the unanswered requests of a socket: a few kilobytes. */
const MAX_WAITING_REFUSALS = 8;

/** How often the sockets are looked at for clients that have stopped reading. */
const STALL_TICK_MS = 1000;

/** Whether the server still takes new work; shared with the routes. */
export class ServerLifecycle implements Lifecycle {
  #leaving = false;
  #draining = false;

  get leaving(): boolean {
    return this.#leaving;
  }

  get draining(): boolean {
    return this.#draining;
  }

  beginLeaving(): void {
    this.#leaving = true;
  }

  beginDraining(): void {
    this.#leaving = true;
    this.#draining = true;
  }
}

/** An application that answers web requests; `env` carries node's own request and response. */
export interface HttpApp {
  fetch(request: Request, env: object): Response | Promise<Response>;
}

export interface HttpServerOptions {
  /** Time after which a client that reads nothing of its answer is cut off. */
  readonly writeTimeoutMs: number;
  readonly limits: Limits;
  /** Called for each connection that is closed at once because there are too many. */
  readonly onDrop?: () => void;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
}

export class HttpServer {
  readonly #server: Server;
  readonly #lifecycle: ServerLifecycle;
  /** With the answers of each that are not finished. */
  readonly #sockets = new Map<Socket, Set<ServerResponse>>();
  readonly #maxUnanswered: number;
  readonly #stallTimer: NodeJS.Timeout;
  #onQuiet: (() => void) | undefined;

  constructor(app: HttpApp, lifecycle: ServerLifecycle, options: HttpServerOptions) {
    const { limits } = options;
    this.#lifecycle = lifecycle;
    this.#maxUnanswered = limits["max-requests-per-connection"] + MAX_WAITING_REFUSALS;
    const stalled = new StalledWrites<Socket>(options.writeTimeoutMs);
    this.#stallTimer = setInterval(() => {
      for (const socket of stalled.tick(this.#sockets.keys(), STALL_TICK_MS)) socket.destroy();
    }, STALL_TICK_MS).unref();
    // The adapter takes hosts that are none to the URL parser, such as "a.1".
    const fetch = (request: Request, env: object): Response | Promise<Response> => {
      if (!URL.canParse(request.url)) throw new RequestError("Invalid host header");
      return app.fetch(request, env);
    };
    const listener = getRequestListener(fetch, {
      overrideGlobalObjects: false,
      errorHandler: (error) =>
        error instanceof RequestError
          ? errorReply(unreadableRequest(error))
          : new Response(null, { status: 500 }),
    });
    const answer = (request: IncomingMessage, response: ServerResponse): void => {
      this.#track(request.socket, response);
      // Health checks of balancers are HTTP/1.0 and have none. Browsers, whose Host is looked at, always have one.
      if (request.httpVersion === "1.0") request.headers.host ??= "localhost";
      // Without it the client's connection would outlive the answer and bring more requests to a closing server.
      if (lifecycle.draining) response.setHeader("connection", "close");
      void listener(request, response);
    };
    this.#server = createServer(
      {
        headersTimeout: Math.min(limits["max-header-seconds"], limits["max-request-seconds"]) * 1000,
        requestTimeout: limits["max-request-seconds"] * 1000,
        connectionsCheckingInterval: SLOW_TICK_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        maxHeaderSize: limits["max-header-bytes"],
        // Node's own refusal of a request without one says nothing.
        requireHostHeader: false,
      },
      answer,
    );
    this.#server.maxConnections = limits["max-connections"];
    // Their bytes are bounded. By number Node 20 leaves out what comes after the first thousand, and Node 24 refuses all.
    this.#server.maxHeadersCount = 0;
    this.#server.on("drop", () => options.onDrop?.());
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
      // Behind the beginning of another answer it would be read as more of that.
      const isAnswering = [...(this.#sockets.get(socket) ?? [])].some((open) => open.headersSent);
      if (socket.writable && !isAnswering) socket.write(connectionErrorAnswer(error.code, limits));
      socket.destroySoon();
    });
    this.#server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
      continueWhenRead(request, response);
      answer(request, response);
    });
    this.#server.on("connection", (socket) => {
      this.#sockets.set(socket, new Set());
      // Of the answers behind the one that is being sent, node says nothing when their socket closes.
      socket.once("close", () => {
        this.#sockets.delete(socket);
        this.#checkQuiet();
      });
    });
  }

  /**
   * Resolves with the port it listens on.
   * @throws {Error} With the system's code: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`.
   */
  async listen({ host, port }: ListenOptions): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host.replaceAll(/[[\]]/g, ""), () => {
        this.#server.removeListener("error", reject);
        resolve();
      });
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** Unfinished answers. */
  get openResponses(): number {
    let open = 0;
    for (const answers of this.#sockets.values()) open += answers.size;
    return open;
  }

  /** Method and path of each of them, without the query, which may hold a key. */
  *openRoutes(): Generator<string> {
    for (const answers of this.#sockets.values()) {
      for (const { req } of answers) yield `${req.method} ${(req.url ?? "").split("?", 1)[0]}`;
    }
  }

  /**
   * Readiness fails from now on, while requests are taken as before: what sends them here needs `settleMs` to
   * notice. Aborting `hurry` ends the wait.
   */
  async leave(settleMs: number, hurry: AbortSignal): Promise<void> {
    this.#lifecycle.beginLeaving();
    await wait(settleMs, undefined, { signal: hurry }).catch(() => undefined);
  }

  /**
   * Refuses new work from now on (the socket still listens, so that it is refused in words) and resolves true
   * when the last answer has gone out, or false after `timeoutMs` or when `hurry` is aborted.
   */
  async drain(timeoutMs: number, hurry: AbortSignal): Promise<boolean> {
    this.#lifecycle.beginDraining();
    // Answers that have not begun can still say that the connection ends with them.
    for (const answers of this.#sockets.values())
      for (const response of answers) if (!response.headersSent) response.setHeader("connection", "close");
    const sweep = setInterval(() => this.#server.closeIdleConnections(), IDLE_SWEEP_MS);
    this.#server.closeIdleConnections();
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<boolean>((resolve) => {
        this.#onQuiet = () => resolve(true);
        if (this.openResponses === 0 || hurry.aborted) return resolve(this.openResponses === 0);
        timer = setTimeout(() => resolve(false), timeoutMs);
        hurry.addEventListener("abort", () => resolve(false), { once: true });
      });
    } finally {
      clearTimeout(timer);
      clearInterval(sweep);
    }
  }

  /**
   * Stops listening, gives unfinished answers `graceMs` to send their error frames, then closes every socket,
   * those that never sent a byte included.
   */
  async close(graceMs: number): Promise<void> {
    clearInterval(this.#stallTimer);
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const quiet = new Promise<void>((resolve) => {
      this.#onQuiet = resolve;
      if (this.openResponses === 0) resolve();
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, graceMs)));
    await Promise.race([quiet, late]);
    clearTimeout(timer);
    for (const socket of this.#sockets.keys()) {
      // What has been written goes out first; a socket in the middle of an answer is cut.
      if (this.openResponses === 0) socket.destroySoon();
      else socket.destroy();
    }
    await closed;
  }

  #track(socket: Socket, response: ServerResponse): void {
    const answers = this.#sockets.get(socket);
    answers?.add(response);
    // Answers wait behind the first one, and node stops reading a socket with much to send: it would not see its
    // client leave any more, and what it has asked would run on.
    if ((answers?.size ?? 0) > this.#maxUnanswered) socket.destroy();
    response.once("close", () => {
      answers?.delete(response);
      this.#checkQuiet();
    });
  }

  #checkQuiet(): void {
    if (this.#onQuiet !== undefined && this.openResponses === 0) this.#onQuiet();
  }
}

/**
 * Lets a client that asks before it sends (`Expect: 100-continue`) send its body only when somebody wants to read it:
 * a request that is refused by its headers costs no upload.
 */
function continueWhenRead(request: IncomingMessage, response: ServerResponse): void {
  const read = request._read.bind(request);
  request._read = (size) => {
    request._read = read;
    if (!response.headersSent) response.writeContinue();
    read(size);
  };
}
