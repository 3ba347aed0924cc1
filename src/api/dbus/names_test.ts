import assert from "node:assert/strict";
import { isBusName, isObjectPath, isWellKnownName } from "./names.ts";

Deno.test("isWellKnownName() and isBusName() follow the specification's grammar", () => {
  for (const name of ["a.b", "org.example.Vm-1", "_a._b", `a.${"b".repeat(253)}`]) {
    assert.ok(isWellKnownName(name) && isBusName(name), name);
  }
  for (const name of ["", "a", "a.", ".a", "a..b", "a.1b", "a b.c", "a.b\n", `a.${"b".repeat(254)}`]) {
    assert.ok(!isWellKnownName(name) && !isBusName(name), name);
  }
  assert.ok(isBusName(":1.5") && !isWellKnownName(":1.5"));
});

Deno.test("isObjectPath() follows the specification's grammar", () => {
  for (const path of ["/", "/a", "/org/example/Vm_1"]) assert.ok(isObjectPath(path), path);
  for (const path of ["", "a", "/a/", "//", "/a//b", "/a-b", "/a b", "/a\n"]) {
    assert.ok(!isObjectPath(path), path);
  }
});
