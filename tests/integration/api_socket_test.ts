/**
 * The API socket of the built program: lock, take-over, modes, removal, inherited descriptors, endings.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true };
const PERSONALITIES = ["nephos", "cloud-hypervisor"] as const;
const MODE_BITS = 0o777;

const SIGTERM_BIT = 1n << 14n;

/** Whether a SIGTERM would wait for the program, or be caught by it. */
function holdsSigterm(pid: number): boolean {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return [...status.matchAll(/^Sig(?:Blk|Cgt):\t([0-9a-f]+)$/gm)]
    .some(([, mask]) => (BigInt(`0x${mask}`) & SIGTERM_BIT) !== 0n);
}

function existsNow(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

const exists = (path: string) => Deno.lstat(path).then(() => true, () => false);

for (const program of PERSONALITIES) {
  testWith(
    NEEDS,
    `${program}: the socket is the user's alone and goes with a clean end; the lock file stays`,
    async () => {
      await using vm = await Vm.start({ program });
      const path = vm.api.socketPath;
      for (const name of [path, `${path}.lock`]) {
        assert.equal((await Deno.lstat(name)).mode! & MODE_BITS & 0o077, 0, name);
      }
      assert.equal((await vm.stop()).code, 0);
      assert.equal(await exists(path), false);
      assert.equal(await exists(`${path}.lock`), true);
    },
  );

  testWith(
    NEEDS,
    `${program}: a second program on the same path fails and leaves the first alone`,
    async () => {
      await using vm = await Vm.start({ program });
      const { code, stderr } = await new Deno.Command(programPath(program)!, {
        args: ["--api-socket", `path=${vm.api.socketPath}`],
        stdin: "null",
      }).output();
      assert.equal(code, 1);
      assert.match(
        new TextDecoder().decode(stderr),
        /exited with the following chain of errors:\n {2}0: Failed to start the VMM thread\n {2}1: API socket ".*" is already in use by another running instance\n$/,
      );
      assert.equal((await vm.api.get("vmm.ping")).status, 200);
    },
  );

  testWith(NEEDS, `${program}: a socket left by a killed program is taken over`, async () => {
    await using killed = await Vm.start({ program });
    const path = killed.api.socketPath;
    killed.kill("SIGKILL");
    await killed.exited;
    assert.equal(await exists(path), true);
    await using next = await Vm.start({ program, api: false, args: ["--api-socket", `path=${path}`] });
    await eventually("an answer on the old path", async () => {
      try {
        using connection = await HttpConnection.open(path);
        return (await connection.request("GET", "/api/v1/vmm.ping")).status === 200;
      } catch {
        return false;
      }
    });
    assert.equal((await next.stop()).code, 0);
    assert.equal(await exists(path), false);
  });

  testWith(NEEDS, `${program}: a directory that is not there is an error with its reason`, async () => {
    const { code, stderr } = await new Deno.Command(programPath(program)!, {
      args: ["--api-socket", "/nonexistent/directory/socket"],
      stdin: "null",
    }).output();
    assert.equal(code, 1);
    assert.match(
      new TextDecoder().decode(stderr),
      / {2}1: Error creation API server's socket\n {2}2: No such file or directory \(os error 2\)\n$/,
    );
  });

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    testWith(NEEDS, `${program}: ${signal} ends it with code 0`, async () => {
      await using vm = await Vm.start({ program, events: true });
      vm.kill(signal);
      assert.equal((await vm.waitForExit()).code, 0);
      assert.deepEqual(await vm.events.names(), ["vmm/starting", "vmm/shutdown"]);
    });
  }

  testWith(NEEDS, `${program}: SIGTERM as soon as the socket is there ends it with code 0`, async () => {
    for (let round = 0; round < 3; round++) {
      await using vm = await Vm.start({ program, api: false, args: ["--api-socket", "{dir}/api.sock"] });
      // Without a pause: whoever waits a moment is late.
      while (vm.exit === undefined && !existsNow(vm.api.socketPath)) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      vm.kill("SIGTERM");
      assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
      assert.equal(await exists(vm.api.socketPath), false);
    }
  });

  testWith(NEEDS, `${program}: SIGTERM while the runtime starts ends it with code 0`, async () => {
    for (const delayMs of [0, 5, 10, 20, 30]) {
      await using vm = await Vm.start({ program, api: false, args: ["--api-socket", "{dir}/api.sock"] });
      await eventually("the launcher", () => holdsSigterm(vm.pid));
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      vm.kill("SIGTERM");
      assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
      assert.equal(await exists(vm.api.socketPath), false);
    }
  });

  testWith(
    { ...NEEDS, commands: ["env"] },
    `${program}: SIGTERM ends it although whoever started it blocked all signals`,
    async () => {
      await using vm = await Vm.start({
        program,
        path: "env",
        api: false,
        args: ["--block-signal", programPath(program)!, "--api-socket", "{dir}/api.sock"],
      });
      await vm.waitForApi();
      vm.kill("SIGTERM");
      assert.equal((await vm.waitForExit()).code, 0);
    },
  );

  testWith(NEEDS, `${program}: vmm.shutdown is answered before the program ends`, async () => {
    await using vm = await Vm.start({ program });
    const answer = await vm.api.put("vmm.shutdown");
    assert.equal(answer.status, 200);
    assert.equal(answer.body, "");
    assert.equal((await vm.waitForExit()).code, 0);
  });
}

testWith(
  { ...NEEDS, commands: ["python3"] },
  "cloud-hypervisor: serves a listening socket it inherits",
  async () => {
    const directory = await Deno.makeTempDir({ prefix: "nephos-fd-" });
    const path = join(directory, "socket");
    const script = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8)
os.dup2(s.fileno(), 9); os.set_inheritable(9, True)
os.execv(sys.argv[2], [sys.argv[2], "--api-socket", "fd=9"])`;
    const child = new Deno.Command("python3", {
      args: ["-c", script, path, programPath("cloud-hypervisor")!],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      // A socket that is bound is there before it listens.
      using connection = await eventually(
        "the socket",
        () => HttpConnection.open(path).catch(() => undefined),
      );
      const answer = await connection.request("GET", "/api/v1/vmm.ping");
      assert.equal(answer.statusLine, "HTTP/1.1 200 ");
      assert.equal(answer.json<{ pid: number }>().pid, child.pid);
      child.kill("SIGTERM");
      assert.equal((await child.status).code, 0);
      assert.equal(await exists(path), true, "an inherited socket's file is not ours to remove");
    } finally {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await child.status;
      await Deno.remove(directory, { recursive: true });
    }
  },
);

testWith(NEEDS, "cloud-hypervisor: a descriptor that is not open, or no socket, is an error", async () => {
  for (const fd of ["77", "0"]) {
    const { code, stderr } = await new Deno.Command(programPath("cloud-hypervisor")!, {
      args: ["--api-socket", `fd=${fd}`],
      stdin: "null",
    }).output();
    assert.equal(code, 1);
    assert.match(new TextDecoder().decode(stderr), /Error creation API server's socket/);
  }
});

testWith(
  { ...NEEDS, commands: ["python3"] },
  "cloud-hypervisor: a socket that does not listen is an error",
  async () => {
    const script = `
import os, socket, sys
s, peer = socket.socketpair()
os.dup2(s.fileno(), 9); os.set_inheritable(9, True)
os.execv(sys.argv[1], [sys.argv[1], "--api-socket", "fd=9"])`;
    const { code, stderr } = await new Deno.Command("python3", {
      args: ["-c", script, programPath("cloud-hypervisor")!],
      stdin: "null",
    }).output();
    assert.equal(code, 1);
    assert.match(new TextDecoder().decode(stderr), /\n {2}2: Descriptor 9 does not listen\n/);
  },
);

testWith(NEEDS, "ten clients at once get their answers while one sends nothing", async () => {
  for (const program of PERSONALITIES) {
    await using vm = await Vm.start({ program });
    using slow = await HttpConnection.open(vm.api.socketPath);
    await slow.send(new TextEncoder().encode("GET /api/v1/vmm.pi"));
    await Promise.all(Array.from({ length: 9 }, async () => {
      using connection = await HttpConnection.open(vm.api.socketPath);
      for (let i = 0; i < 50; i++) {
        assert.equal((await connection.request("GET", "/api/v1/vmm.ping")).status, 200);
      }
    }));
    await slow.send(new TextEncoder().encode("ng HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert.equal((await slow.receive()).status, 200);
  }
});

testWith(NEEDS, "ten clients at once get their answers while one reads none of its own", async () => {
  const requests = 3_000;
  for (const program of PERSONALITIES) {
    await using vm = await Vm.start({ program });
    using deaf = await Deno.connect({ transport: "unix", path: vm.api.socketPath });
    const request = new TextEncoder().encode("GET /api/v1/vmm.ping HTTP/1.1\r\nHost: x\r\n\r\n");
    const all = new Uint8Array(requests * request.length);
    for (let i = 0; i < requests; i++) all.set(request, i * request.length);
    const sending = (async () => {
      for (let done = 0; done < all.length;) done += await deaf.write(all.subarray(done));
    })();
    await Promise.all(Array.from({ length: 9 }, async () => {
      using connection = await HttpConnection.open(vm.api.socketPath);
      for (let i = 0; i < 50; i++) {
        assert.equal((await connection.request("GET", "/api/v1/vmm.ping")).status, 200);
      }
    }));
    let text = "";
    let answers = 0;
    const chunk = new Uint8Array(1 << 16);
    while (answers < requests) {
      const count = await deaf.read(chunk);
      assert.ok(count !== null, `The connection ended after ${answers} answers`);
      text += new TextDecoder().decode(chunk.subarray(0, count));
      answers += text.split("HTTP/1.1 200").length - 1;
      text = text.slice(-"HTTP/1.1 20".length);
    }
    await sending;
    assert.equal(answers, requests);
  }
});
