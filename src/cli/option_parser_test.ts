import assert from "node:assert/strict";
import { OptionError } from "./option_error.ts";
import {
  readBig,
  readHex16,
  readI32,
  readIntegers,
  readMac,
  readPairs,
  readSize,
  readStrings,
  readToggle,
  readTuples,
  readUnsigned,
  splitOutside,
  withoutQuotes,
} from "./option_parser.ts";

const keys = (key: string) => ({ path: true, direct: true, list: true, off: false })[key];
const pairs = (text: string) => Object.fromEntries(readPairs(text, keys));
const refused = (text: string) => {
  try {
    readPairs(text, keys);
  } catch (error) {
    assert(error instanceof OptionError);
    return error.message;
  }
  return undefined;
};

Deno.test("readPairs() splits at commas outside of quotes and brackets", () => {
  assert.deepEqual(pairs(""), {});
  assert.deepEqual(pairs("  "), {});
  assert.deepEqual(pairs(" path=x "), { path: "x" });
  assert.deepEqual(pairs("path= x ,direct=on"), { path: "x", direct: "on" });
  assert.deepEqual(pairs('path="x,y",direct=on'), { path: '"x,y"', direct: "on" });
  assert.deepEqual(pairs("list=[[a],b],direct=on"), { list: "[[a],b]", direct: "on" });
  assert.deepEqual(pairs('path="[",direct=on'), { path: '"["', direct: "on" });
  assert.deepEqual(pairs("path=a=b=c"), { path: "a=b=c" });
  assert.deepEqual(pairs("path=a,path=b"), { path: "b" });
  assert.deepEqual(pairs("path=a,path="), { path: "" });
  assert.deepEqual(pairs("off"), { off: "" });
  assert.deepEqual(pairs("off=1,path=x"), { off: "", path: "x" });
});

Deno.test("readPairs() names what it refuses", () => {
  assert.equal(refused("foo=1"), "Unknown option: foo");
  assert.equal(refused("path=a, direct=on"), "Unknown option:  direct");
  assert.equal(refused("path=a,"), "Unknown option: ");
  assert.equal(refused("direct"), "Invalid syntax: direct");
  assert.equal(refused(" path=[a "), "Invalid syntax:  path=[a ");
  assert.equal(refused("path=a]"), "Invalid syntax: path=a]");
  assert.equal(refused('path="a"b"'), 'Invalid syntax: path="a"b"');
});

Deno.test("splitOutside() refuses what does not balance", () => {
  assert.deepEqual(splitOutside("a,[b,c],d", ","), ["a", "[b,c]", "d"]);
  assert.deepEqual(splitOutside('"a@b"@1', "@"), ['"a@b"', "1"]);
  assert.equal(splitOutside("][", ","), undefined);
  assert.equal(splitOutside('"', ","), undefined);
});

Deno.test("withoutQuotes() keeps one quote of a doubled one", () => {
  assert.equal(withoutQuotes('a"b,c"d'), "ab,cd");
  assert.equal(withoutQuotes('"a""b"'), 'a"b');
  assert.equal(withoutQuotes('""""'), '"');
  assert.equal(withoutQuotes('""'), "");
});

Deno.test("readToggle() takes on, off, true and false in any case, unquoted", () => {
  for (const text of ["on", "ON", "True"]) assert.equal(readToggle(text), true);
  for (const text of ["off", "FALSE", ""]) assert.equal(readToggle(text), false);
  for (const text of ["yes", "1", '"on"', "on "]) assert.equal(readToggle(text), undefined);
});

Deno.test("numbers are decimal and inside their range", () => {
  assert.equal(readUnsigned("+1", 255), 1);
  assert.equal(readUnsigned('"7"', 255), 7);
  assert.equal(readUnsigned("0255", 255), 255);
  for (const text of ["256", "-1", "", "+", "0x1", "1K", "1_0", '"1 "', "١"]) {
    assert.equal(readUnsigned(text, 255), undefined, text);
  }
  assert.equal(readBig("18446744073709551615"), 2n ** 64n - 1n);
  assert.equal(readBig("18446744073709551616"), undefined);
  assert.equal(readI32("-1"), -1);
  assert.equal(readI32("2147483648"), undefined);
  assert.equal(readHex16("0xE9"), 0xe9);
  for (const text of ["e9", "0XE9", "0x", "0x10000"]) assert.equal(readHex16(text), undefined, text);
});

Deno.test("readSize() takes one suffix and never wraps around", () => {
  assert.equal(readSize("2M"), 2n << 20n);
  assert.equal(readSize('"1G"'), 1n << 30n);
  assert.equal(readSize('" 2M "'), 2n << 20n);
  assert.equal(readSize("18446744073709551615"), 2n ** 64n - 1n);
  for (const text of ["64KM", "1T", "1k", "1 K", "K", "", "0x1", "18014398509481984K"]) {
    assert.equal(readSize(text), undefined, text);
  }
});

Deno.test("readIntegers() takes lists, ranges and single values", () => {
  assert.deepEqual(readIntegers("[0,2-4,6]", 10), [0, 2, 3, 4, 6]);
  assert.deepEqual(readIntegers("3", 10), [3]);
  assert.deepEqual(readIntegers("1-+3", 10), [1, 2, 3]);
  assert.deepEqual(readIntegers("[[1,2]]", 10), [1, 2]);
  for (
    const text of [
      "",
      "[]",
      "[1,]",
      "[3-1]",
      "[1-1]",
      "[1-2-3]",
      "[-1]",
      "[1-]",
      "[ 1 ]",
      '["1"]',
      "[11]",
      "[1][2]",
    ]
  ) assert.equal(readIntegers(text, 10), undefined, text);
  assert.equal(readIntegers("0-9007199254740991", Number.MAX_SAFE_INTEGER), undefined);
  assert.equal(readIntegers("0-65536", 2 ** 32), undefined);
});

Deno.test("readStrings() keeps quotes", () => {
  assert.deepEqual(readStrings('["a,b",c]'), ['"a,b"', "c"]);
  assert.deepEqual(readStrings("a"), ["a"]);
  assert.deepEqual(readStrings("[]"), [""]);
  assert.deepEqual(readStrings("[ a , b ]"), ["a ", " b"]);
  assert.equal(readStrings("[a,[b,c]]"), undefined);
});

Deno.test("readTuples() needs brackets, keys and values", () => {
  assert.deepEqual(readTuples("[0@[1,2],1@[3-5]]"), [["0", "[1,2]"], ["1", "[3-5]"]]);
  assert.deepEqual(readTuples('["a@b"@1]'), [["a@b", "1"]]);
  assert.deepEqual(readTuples("[ z @1]"), [["z ", "1"]]);
  for (const text of ["", "[]", "0@1", "[0]", "[@1]", "[0@]", "[0@1@2]", "[0@1,]", "[[0@1]]", '"[0@1]"']) {
    assert.equal(readTuples(text), undefined, text);
  }
});

Deno.test("readMac() takes six two-digit groups", () => {
  assert.equal(readMac("AA:bb:cc:dd:ee:ff"), "aa:bb:cc:dd:ee:ff");
  for (const text of ["a", "aabbccddeeff", "a:b:c:d:e:f", "+a:bb:cc:dd:ee:ff", ""]) {
    assert.equal(readMac(text), undefined);
  }
});
