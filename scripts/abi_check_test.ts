import assert from "node:assert/strict";
import { struct } from "@ffi/abi/struct.ts";
import { programUnits } from "./abi/compiler.ts";
import { constantFacts, structFacts } from "./abi/facts.ts";
import { compare } from "./abi_check.ts";

const fact = (expression: string, value: number) => ({ header: "linux/kvm.h", expression, value });

Deno.test("compare() reports a wrong, a missing and a stale value", () => {
  const golden = { "sizeof(struct kvm_regs)": 144, KVM_RUN: 0xae80, KVM_NMI: 0xae9a };
  assert.deepEqual(
    compare([fact("sizeof(struct kvm_regs)", 136), fact("KVM_RUN", 0xae80), fact("KVM_X", 1)], golden),
    [
      "sizeof(struct kvm_regs): ours 136, header 144",
      `KVM_X: not recorded; run "deno task abi --regenerate"`,
      `KVM_NMI: recorded but not used; run "deno task abi --regenerate"`,
    ],
  );
  assert.deepEqual(compare([fact("KVM_RUN", 0xae80)], { KVM_RUN: 0xae80 }), []);
});

Deno.test("structFacts() gives the size and each field's offset and size, opaque fields left out", () => {
  const layout = struct("example", { a: "u32", b: "u64", rest: { bytes: 8 } }, { size: 24, source: "x.h" });
  assert.deepEqual(structFacts(layout).map(({ expression, value }) => [expression, value]), [
    ["sizeof(struct example)", 24],
    ["offsetof(struct example, a)", 0],
    ["sizeof(((struct example *)0)->a)", 4],
    ["offsetof(struct example, b)", 8],
    ["sizeof(((struct example *)0)->b)", 8],
  ]);
});

Deno.test("constantFacts() names constants as C does, and knows no others", () => {
  assert.deepEqual(constantFacts("PROT", { READ: 1 }), [{
    header: "sys/mman.h",
    expression: "PROT_READ",
    value: 1,
  }]);
  assert.deepEqual(
    constantFacts("RunPage", { io: { port: 34 } })?.[0].expression,
    "offsetof(struct kvm_run, io.port)",
  );
  assert.deepEqual(constantFacts("IOVEC_SIZE", 16)?.[0].expression, "sizeof(struct iovec)");
  assert.equal(constantFacts("Unheard", { A: 1 }), undefined);
});

Deno.test("programUnits() makes one unit per header and a main that calls all", () => {
  const units = programUnits([fact("KVM_RUN", 1), { header: "fcntl.h", expression: "O_RDWR", value: 2 }]);
  assert.deepEqual(Object.keys(units), ["unit_0.c", "unit_1.c", "main.c"]);
  assert.match(units["unit_1.c"], /#include <fcntl\.h>[\s\S]*\(long long\)\(O_RDWR\), "O_RDWR"/);
  assert.match(units["main.c"], /unit_0\(\);\n {2}unit_1\(\);/);
});
