import assert from "node:assert/strict";
import { audit } from "./ffi_audit.ts";

Deno.test("audit() wants a SAFETY comment above every unsafe line", () => {
  const text = `const lib = Deno.dlopen("libc.so.6", {});\n`;
  assert.deepEqual(audit("ffi/libc/x.ts", text), [`ffi/libc/x.ts:1: no "// SAFETY:" comment above`]);
  assert.deepEqual(audit("ffi/libc/x.ts", `// SAFETY: signatures checked\n${text}`), []);
});

Deno.test("audit() accepts one comment for adjacent lines and for a statement of several lines", () => {
  const text = [
    "// SAFETY: the mapping lives as long as the process,",
    "// and nobody unmaps it.",
    "const view = new Deno.UnsafePointerView(pointer);",
    "const bytes = view.getArrayBuffer(8);",
    "const other = 1;",
    "// SAFETY: as above",
    "const wrapped = wrap(",
    "  Deno.UnsafePointer.create(address),",
    ");",
  ];
  assert.deepEqual(audit("ffi/x.ts", text.join("\n")), []);
  text.splice(4, 0, "doSomething();", "view.getArrayBuffer(9);");
  assert.deepEqual(audit("ffi/x.ts", text.join("\n")), [`ffi/x.ts:6: no "// SAFETY:" comment above`]);
});

Deno.test("audit() refuses unsafe code and system access outside their folders", () => {
  const device = "const now = Deno.uid();\n// SAFETY: fine\nDeno.UnsafePointer.of(x);\n";
  assert.deepEqual(audit("src/devices/legacy/serial.ts", device), [
    "src/devices/legacy/serial.ts:1: Deno.uid may not be used in this folder",
    "src/devices/legacy/serial.ts:3: unsafe code belongs in ffi/",
  ]);
  assert.deepEqual(audit("src/api/deno_serve.ts", "Deno.serve({});\n"), []);
});

Deno.test("audit() takes no notice of comments and strings", () => {
  assert.deepEqual(
    audit("src/bus/a.ts", `// Deno.exit\n/* Deno.dlopen */ const a = "Deno.exit"; \`Deno.exit\`;\n`),
    [],
  );
});
