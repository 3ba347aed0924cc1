/** Errors as an operator meets them: the answer has the original's words, the log says which field and value. */
import assert from "node:assert/strict";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true };

/** Bad requests, and the place the log must name. */
const REQUESTS: readonly (readonly [operation: string, body: string, place: string])[] = [
  ["vm.create", '{"disks":[{"path":"a"},{"num_queues":-1}]}', "(disks[1].num_queues)"],
  ["vm.create", '{"memory":{"size":0,"zones":[{"id":"z","size":"1G"}]}}', "(memory.zones[0].size)"],
  ["vm.create", '{"net":[{"pci_segment":65536}]}', "(net[0].pci_segment)"],
  ["vm.create", '{"serial":{"mode":"File"}}', "(serial.file: missing)"],
  // A client cannot write lines of the log.
  ["vm.create", '{"serial":{"mode":"x\\ny"}}', "unknown variant `x\\u{a}y`"],
  ["vm.resize", '{"desired_vcpus":"2"}', "(desired_vcpus)"],
];

testWith(NEEDS, "a refused request: the log names the field", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor", args: ["-v"] });
  for (const [operation, body, place] of REQUESTS) {
    assert.equal((await vm.api.put(operation, body)).status, 400);
    await vm.stderr.waitFor(place);
  }
});

testWith(NEEDS, "a refused command line: standard error names the field and its value", async () => {
  const args = ["--kernel", "k", "--disk", "path=a", "path=b,num_queues=9", "--seccomp", "false"];
  const { code, stderr } = await new Deno.Command(programPath("cloud-hypervisor")!, { args, stdin: "null" })
    .output();
  assert.equal(code, 1);
  assert.match(new TextDecoder().decode(stderr), /exceed boot vCPUs \(1\) \(disks\[1\]\.num_queues: 9\)\n/);
});
