import assert from "node:assert/strict";
import { canonicalIpAddress, parseIpv4, parseIpv6, prefixBits } from "@vmm/base/ip_address.ts";

Deno.test("parseIpv4() takes four decimal bytes", () => {
  assert.deepEqual(parseIpv4("192.168.249.1"), Uint8Array.of(192, 168, 249, 1));
  for (const text of ["1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4.5", "a.b.c.d", "::1"]) {
    assert.equal(parseIpv4(text), undefined, text);
  }
});

Deno.test("parseIpv6() expands :: and an IPv4 tail", () => {
  const hex = (text: string) => parseIpv6(text)?.toHex();
  assert.equal(hex("::1"), "00000000000000000000000000000001");
  assert.equal(hex("fe80::"), "fe800000000000000000000000000000");
  assert.equal(hex("2001:DB8::8:800:200c:417a"), "20010db80000000000080800200c417a");
  assert.equal(hex("1:2:3:4:5:6:7:8"), "00010002000300040005000600070008");
  assert.equal(hex("::ffff:10.0.0.1"), "00000000000000000000ffff0a000001");
  for (
    const text of ["", ":", "1::2::3", "1:2:3", "1:2:3:4:5:6:7:8:9", "g::", "10.0.0.1", "1:2:3:4:5:6:7::8"]
  ) {
    assert.equal(hex(text), undefined, text);
  }
});

Deno.test("prefixBits() counts leading ones and refuses a gap", () => {
  assert.equal(prefixBits(parseIpv4("255.255.255.128")!), 25);
  assert.equal(prefixBits(parseIpv6("ffff:ffff::")!), 32);
  assert.equal(prefixBits(parseIpv4("0.0.0.0")!), 0);
  assert.equal(prefixBits(parseIpv4("255.0.255.0")!), undefined);
});

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
