import assert from "node:assert/strict";
import { expectedNames, floatText, JsonFault, quoted } from "@schemas/json/fault.ts";

Deno.test("floatText() is plain from 1e-5 to below 1e16 and has an exponent elsewhere", () => {
  const expected: Readonly<Record<string, number>> = {
    "0.0": 0,
    "-0.0": -0,
    "1.0": 1,
    "-100000.0": -1e5,
    "0.00001": 1e-5,
    "0.000015": 1.5e-5,
    "1e-6": 1e-6,
    "123.45678901234567": 123.45678901234567,
    "2500000000000000.0": 2.5e15,
    "1e+16": 1e16,
    "1.8446744073709552e+19": 2 ** 64,
    "5e-324": 5e-324,
  };
  for (const [text, value] of Object.entries(expected)) assert.equal(floatText(value), text);
});

Deno.test("quoted() escapes what cannot be printed", () => {
  assert.equal(quoted('a"b\\c\n\t\0é \u{1f600}'), '"a\\"b\\\\c\\n\\t\\0é \u{1f600}"');
  assert.equal(quoted("\u0007\u00a0\u0301\u200b\ue000"), '"\\u{7}\\u{a0}\\u{301}\\u{200b}\\u{e000}"');
});

Deno.test("expectedNames() lists one, two and many names", () => {
  assert.equal(expectedNames([]), "there are no fields");
  assert.equal(expectedNames(["a"]), "expected `a`");
  assert.equal(expectedNames(["a", "b"]), "expected `a` or `b`");
  assert.equal(expectedNames(["a", "b", "c"]), "expected one of `a`, `b`, `c`");
});

Deno.test("JsonFault joins names and indices to a field path", () => {
  const fault = new JsonFault("x");
  fault.path.push("disks", 1, "queue_affinity", 0, "host_cpus", 2);
  assert.equal(fault.fieldPath, "disks[1].queue_affinity[0].host_cpus[2]");
  assert.equal(fault.message, "x");
});
