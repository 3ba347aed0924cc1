/** A program that may open no more descriptors: it goes on, and takes clients again when it may. */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true, commands: ["prlimit"] };
const PERSONALITIES = ["nephos", "cloud-hypervisor"] as const;
const PING = "/api/v1/vmm.ping";

/** Sets the soft limit; what is open stays open. */
async function limitDescriptors(vm: Vm, limit: number): Promise<void> {
  const { code } = await new Deno.Command("prlimit", {
    args: ["--pid", String(vm.pid), `--nofile=${limit}:`],
  })
    .output();
  assert.equal(code, 0);
}

async function currentLimit(vm: Vm): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${vm.pid}/limits`);
  return Number(/^Max open files +(\d+)/m.exec(text)![1]);
}

for (const program of PERSONALITIES) {
  testWith(NEEDS, `${program}: answers those who are connected, and takes clients again later`, async () => {
    await using vm = await Vm.start({ program });
    const limit = await currentLimit(vm);
    using kept = await HttpConnection.open(vm.api.socketPath);
    assert.equal((await kept.request("GET", PING)).status, 200);
    for (let round = 1; round <= 2; round++) {
      const refusals = () => vm.stderr.text.split("Cannot accept API connections").length - 1;
      const before = refusals();
      await limitDescriptors(vm, 0);
      // Nobody may listen at the moment: then connecting fails.
      using _client = await HttpConnection.open(vm.api.socketPath).catch(() => undefined);
      await eventually("the line in the log", () => refusals() > before);
      assert.equal((await kept.request("GET", PING)).status, 200);
      await limitDescriptors(vm, limit);
      await eventually("an answer to a new client", () => vm.api.get("vmm.ping").catch(() => undefined));
    }
    assert.match(vm.stderr.text, /Too many open files \(os error 24\)/);
    assert.equal((await kept.request("GET", PING)).status, 200);
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
    await assert.rejects(Deno.lstat(vm.api.socketPath), Deno.errors.NotFound);
  });
}

testWith(
  { ...NEEDS, kvm: true },
  "a VM lives on when the memory of its start cannot be looked at",
  async () => {
    await using puppet = await Puppet.make();
    await using vm = await Vm.start({ program: "cloud-hypervisor", args: ["-vv"] });
    await vm.api.mustPut("vm.create", puppet.config());
    await vm.api.mustPut("vm.boot");
    const limit = await currentLimit(vm);
    await limitDescriptors(vm, 0);
    await vm.stderr.waitFor("Memory of the start stays: ");
    await limitDescriptors(vm, limit);
    await puppet.beats();
    assert.equal((await vm.api.info()).state, "Running");
  },
);
