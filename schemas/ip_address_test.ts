import assert from "node:assert/strict";
import { canonicalIpAddress } from "@schemas/ip_address.ts";

Deno.test("canonicalIpAddress() gives the shortest form", () => {
  const forms: Readonly<Record<string, string>> = {
    "192.168.1.1": "192.168.1.1",
    "2001:DB8:0:0:0:0:0:1": "2001:db8::1",
    "::ffff:1.2.3.4": "::ffff:1.2.3.4",
    "0000:0:0:0:0:ffff:0102:0304": "::ffff:1.2.3.4",
    "::1.2.3.4": "::102:304",
    "0:0:1:0:0:0:0:0": "0:0:1::",
    "1:0:0:2:0:0:0:3": "1:0:0:2::3",
    "1:2:3:4:5:6:7::": "1:2:3:4:5:6:7:0",
    "::": "::",
    "1::": "1::",
    "64:ff9b::1.2.3.4": "64:ff9b::102:304",
  };
  for (const [text, canonical] of Object.entries(forms)) assert.equal(canonicalIpAddress(text), canonical);
});

Deno.test("canonicalIpAddress() refuses what is no address", () => {
  const texts = [
    "",
    "1.2.3",
    "01.2.3.4",
    "256.1.1.1",
    "1.2.3.4 ",
    "fe80::1%eth0",
    "12345::",
    "1::2::3",
    ":1",
    "[::1]",
  ];
  for (
    const text of [
      ...texts,
      "1:2:3:4:5:6:7:8:9",
      "::ffff:1.2.3",
      "1.2.3.4::",
      "1:2:3:4:5:6:7:8::",
      "1.1.1.1/24",
    ]
  ) {
    assert.equal(canonicalIpAddress(text), undefined, text);
  }
});
