import assert from "node:assert/strict";
import { parseIpv4, parseIpv6, prefixBits } from "@vmm/base/ip_address.ts";

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
