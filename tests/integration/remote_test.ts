/**
 * The remote client against servers it meets: an ordinary HTTP server, and one that takes descriptors.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { accept, listenUnix, SocketMessage } from "@ffi/libc/socket.ts";
import { close } from "@ffi/libc/fd.ts";
import { runRemote } from "@vmm/remote/run_remote.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function remote(args: readonly string[], stdin = ""): Promise<Run> {
  let [out, err] = ["", ""];
  const code = await runRemote(args, "nephos remote", {
    out: (text) => out += text,
    err: (text) => err += text,
    readInput: () => new TextEncoder().encode(stdin),
    now: () => new Date(0),
  });
  return { code, out, err };
}

async function inDirectory(run: (socket: string, directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "remote-" });
  try {
    await run(join(directory, "api.sock"), directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("an ordinary HTTP server is understood", () =>
  inDirectory(async (socket) => {
    const requests: string[] = [];
    await using _server = Deno.serve({ path: socket, onListen: () => {} }, async (request) => {
      const { pathname } = new URL(request.url);
      requests.push(`${request.method} ${pathname} ${await request.text()}`);
      switch (pathname) {
        case "/api/v1/vm.info":
          return Response.json({ state: "Created" });
        case "/api/v1/vm.create":
          return new Response(null, { status: 204 });
        default:
          return Response.json(["Error from API", "The VM could not boot"], { status: 404 });
      }
    });
    assert.deepEqual(await remote(["--api-socket", socket, "info"]), {
      code: 0,
      out: '{"state":"Created"}\n',
      err: "",
    });
    assert.deepEqual(await remote(["--api-socket", socket, "create"], "{}"), { code: 0, out: "", err: "" });
    assert.deepEqual(await remote(["--api-socket", socket, "boot"]), {
      code: 1,
      out: "",
      err: "Error: ch-remote exited with the following chain of errors:\n  0: http client error\n" +
        "  1: Server responded with NotFound\n  2: Error from API\n  3: The VM could not boot\n",
    });
    assert.deepEqual(requests, ["GET /api/v1/vm.info ", "PUT /api/v1/vm.create {}", "PUT /api/v1/vm.boot "]);
  }));

/** Serves one request on a connection of `listenFd` that carries one; returns its bytes and how many descriptors came with each message. */
async function serveOnce(listenFd: number): Promise<{ text: string; descriptors: number[] }> {
  const message = new SocketMessage(1 << 16);
  const open: number[] = [];
  let text = "";
  const descriptors: number[] = [];
  try {
    return await eventually("a request", () => {
      const fd = accept(listenFd);
      if (fd >= 0) open.push(fd);
      for (const connection of open) {
        const count = message.receive(connection);
        if (count <= 0) continue;
        text += new TextDecoder().decode(message.data.subarray(0, count));
        descriptors.push(message.descriptors.length);
        message.descriptors.forEach(close);
        const end = text.indexOf("\r\n\r\n");
        const length = Number(/Content-Length: (\d+)/.exec(text)?.[1] ?? 0);
        if (end < 0 || text.length < end + 4 + length) continue;
        message.send(connection, new TextEncoder().encode("HTTP/1.1 204 \r\nServer: x\r\n\r\n"));
        return { text, descriptors };
      }
      return undefined;
    });
  } finally {
    open.forEach(close);
  }
}

Deno.test("descriptors travel with the first bytes of the request and stay out of the body", () =>
  inDirectory(async (socket, directory) => {
    const listenFd = listenUnix(socket);
    await Deno.writeTextFile(join(directory, "a"), "a");
    const files = [Deno.openSync(join(directory, "a")), Deno.openSync(join(directory, "a"))];
    const numbers = (await Array.fromAsync(Deno.readDir("/proc/self/fd"))).map(({ name }) => Number(name))
      .filter(
        (fd) => {
          try {
            return Deno.readLinkSync(`/proc/self/fd/${fd}`) === join(directory, "a");
          } catch {
            return false;
          }
        },
      );
    assert.equal(numbers.length, 2);
    try {
      const value = `fd=[${numbers.join(",")}],num_queues=4`;
      const [served, run] = await Promise.all([
        serveOnce(listenFd),
        remote(["--api-socket", socket, "add-net", value]),
      ]);
      assert.deepEqual(run, { code: 0, out: "", err: "" });
      assert.equal(served.descriptors[0], 2);
      assert.ok(served.descriptors.slice(1).every((count) => count === 0));
      assert.match(
        served.text,
        /^PUT \/api\/v1\/vm\.add-net HTTP\/1\.1\r\nHost: localhost\r\nAccept: \*\/\*\r\nContent-Length: \d+\r\n\r\n\{/,
      );
      assert.doesNotMatch(served.text, /fd/);
      // The client's own descriptors stay open.
      for (const file of files) assert.equal(file.statSync().size, 1);
    } finally {
      files.forEach((file) => file.close());
      close(listenFd);
    }
  }));

Deno.test("a closed descriptor is an error, not a request", () =>
  inDirectory(async (socket) => {
    const listenFd = listenUnix(socket);
    try {
      assert.deepEqual(await remote(["--api-socket", socket, "add-net", "fd=[9999]"]), {
        code: 1,
        out: "",
        err: "Error: ch-remote exited with the following chain of errors:\n  0: http client error\n" +
          "  1: Error sending file descriptors\n  2: Bad file descriptor (os error 9)\n",
      });
    } finally {
      close(listenFd);
    }
  }));

Deno.test("a socket that nobody listens on is a line in the logger's form", () =>
  inDirectory(async (socket) => {
    assert.deepEqual(await remote(["--api-socket", socket, "info"]), {
      code: 1,
      out: "",
      err:
        "[1970-01-01T00:00:00Z ERROR ch_remote] Error opening HTTP socket: No such file or directory (os error 2)\n",
    });
  }));

testWith(
  { binary: true },
  "an answer that cannot be written is an error, one that nobody reads is not",
  async () => {
    await using vm = await Vm.start({ program: "cloud-hypervisor" });
    const run = async (command: string, target: string) => {
      const { code, stderr } = await new Deno.Command("sh", {
        args: [
          "-c",
          `"$0" --api-socket "$1" ${command} >${target}`,
          programPath("ch-remote")!,
          join(vm.directory, "api.sock"),
        ],
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).output();
      return { code, stderr: new TextDecoder().decode(stderr) };
    };
    assert.deepEqual(await run("ping", "/dev/full"), {
      code: 1,
      stderr: "Error: ch-remote exited with the following chain of errors:\n" +
        "  0: Error writing to standard output\n  1: No space left on device (os error 28)\n",
    });
    assert.deepEqual(await run("ping", "&-"), { code: 0, stderr: "" });
    assert.deepEqual(await run("--version", "/dev/full"), { code: 0, stderr: "" });
  },
);

Deno.test("a server that goes away is an error", () =>
  inDirectory(async (socket) => {
    const listener = Deno.listen({ transport: "unix", path: socket });
    const serving = (async () => {
      const connection = await listener.accept();
      await connection.read(new Uint8Array(1024));
      connection.close();
    })();
    const { code, err } = await remote(["--api-socket", socket, "info"]);
    await serving;
    listener.close();
    assert.equal(code, 1);
    assert.match(
      err,
      /HTTP output is missing protocol statement|Error writing to or reading from HTTP socket/,
    );
  }));
