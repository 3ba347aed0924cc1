import assert from "node:assert/strict";
import { formatMac, parseMac } from "@vmm/base/mac_address.ts";

Deno.test("parseMac() takes six two-digit groups only", () => {
  assert.deepEqual(parseMac("2E:00:01:aB:ff:10"), Uint8Array.of(0x2e, 0, 1, 0xab, 0xff, 0x10));
  for (
    const text of [
      "",
      "2e:00:01:ab:ff",
      "2e:00:01:ab:ff:1",
      "2e-00-01-ab-ff-10",
      "2e:00:01:ab:ff:10:11",
      "2g:00:01:ab:ff:10",
    ]
  ) {
    assert.equal(parseMac(text), undefined, text);
  }
});

Deno.test("formatMac() is the lower-case inverse of parseMac()", () => {
  assert.equal(formatMac(parseMac("2E:00:01:AB:FF:10")!), "2e:00:01:ab:ff:10");
});
