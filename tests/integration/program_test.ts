/** The built program as a file: names, versions, starting conditions. The same for every way of packaging. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type ProgramName, programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true };

async function output(program: ProgramName, args: string[], options: Deno.CommandOptions = {}) {
  const { code, stdout, stderr } = await new Deno.Command(programPath(program)!, {
    args,
    stdin: "null",
    ...options,
  })
    .output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: decode(stdout), stderr: decode(stderr) };
}

testWith(NEEDS, "the program is one file; its personalities are links to it", async () => {
  const built = programPath("nephos")!;
  assert.ok((await Deno.lstat(built)).isFile);
  for (const name of ["cloud-hypervisor", "ch-remote"] as const) {
    assert.equal(await Deno.realPath(programPath(name)!), await Deno.realPath(built));
  }
});

testWith(NEEDS, "--version begins with the name of the personality", async () => {
  assert.match((await output("nephos", ["--version"])).stdout, /^nephos v?\d+\.\d+/);
  assert.match((await output("cloud-hypervisor", ["--version"])).stdout, /^cloud-hypervisor v\d+\.\d+/);
  assert.match((await output("ch-remote", ["--version"])).stdout, /^ch-remote v?\d+\.\d+/);
});

testWith(NEEDS, "starts without HOME, in a working directory of its own, from a copy elsewhere", async () => {
  const directory = await Deno.makeTempDir({ prefix: "nephos-copy-" });
  try {
    const copy = join(directory, "copy");
    await Deno.copyFile(programPath("nephos")!, copy);
    const { success, stdout, stderr } = await new Deno.Command(copy, {
      args: ["--version"],
      cwd: "/",
      clearEnv: true,
      env: { PATH: "/usr/bin:/bin", XDG_CACHE_HOME: directory },
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    assert.match(new TextDecoder().decode(stdout), /^nephos /);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

testWith(
  { ...NEEDS, kvm: true },
  "the process bears the name it was started by, and keeps its id",
  async () => {
    await using vm = await Vm.start({ program: "cloud-hypervisor" });
    assert.equal((await Deno.readTextFile(`/proc/${vm.pid}/comm`)).trim(), "cloud-hyperviso");
    assert.equal((await vm.api.get("vmm.ping")).json<{ pid: number }>().pid, vm.pid);
  },
);

testWith(
  NEEDS,
  "an unknown option ends the program with code 2 and a message on standard error",
  async () => {
    const { code, stdout, stderr } = await output("nephos", ["--no-such-option"]);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /--no-such-option/);
  },
);

testWith(NEEDS, "a program whose standard error nobody reads starts all the same", async () => {
  for (const redirection of ["2>/dev/full", "2>&-"]) {
    await using vm = await Vm.start({
      path: "/bin/sh",
      api: false,
      args: ["-c", `exec "$0" --api-socket {dir}/api.sock ${redirection}`, programPath("nephos")!],
    });
    await vm.waitForApi();
    assert.equal((await vm.stop()).code, 0);
  }
});

testWith(NEEDS, "SIGUSR1 ends the program and opens no debugger", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor" });
  // Longer than the runtime waits before it cares for this signal.
  await vm.descriptorsAtRest();
  vm.kill("SIGUSR1");
  assert.equal((await vm.waitForExit()).signal, "SIGUSR1");
  assert.equal(vm.stderr.text, "");
});
