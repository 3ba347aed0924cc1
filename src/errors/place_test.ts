import assert from "node:assert/strict";
import { ConfigError } from "./config_error.ts";
import { chainLine, placeOf, shortened } from "./place.ts";

const rule = (fieldPath: string, value?: unknown) =>
  placeOf(new ConfigError({ messages: ["No"], fieldPath, value }));

Deno.test("placeOf() names field and value, 64-bit numbers exactly", () => {
  assert.equal(rule("disks[1].num_queues", 9), " (disks[1].num_queues: 9)");
  assert.equal(rule("memory.hugepage_size", 2n ** 64n - 1n), " (memory.hugepage_size: 18446744073709551615)");
  assert.equal(rule("disks[0].id", "a\nb"), ' (disks[0].id: "a\\nb")');
  assert.equal(rule("serial.file"), " (serial.file: missing)");
  assert.equal(rule(""), "");
  assert.equal(placeOf(new Error("x")), "");
});

Deno.test("placeOf() shows no more than the beginning of a long value", () => {
  assert.equal(rule("a", "x".repeat(1000)).length, " (a: )".length + 121);
  assert.equal(shortened("abc", 2), "ab…");
  assert.equal(shortened("abc", 3), "abc");
});

Deno.test("chainLine() stays one line whatever the messages hold", () => {
  assert.equal(chainLine(["a", "b\nc\x1b[31m", "d\u2028"]), "a: b\\u{a}c\\u{1b}[31m: d\\u{2028}");
  assert.equal(chainLine(["é \\n"]), "é \\n");
});
