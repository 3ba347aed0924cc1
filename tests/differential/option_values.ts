/**
 * Values to try for each parameter of an option, made from the parameter tables.
 *
 * Tests only. Values in which this program is stricter than the original on purpose are left out, see `STRICTER`.
 */
import type { Parameter, ParameterTable } from "@schemas/cli/parameter.ts";
import type { Random } from "./bodies.ts";

const NUMBER_MAX: Readonly<Record<string, string>> = {
  u8: "255",
  u16: "65535",
  u32: "4294967295",
  i32: "2147483647",
  usize: "65536",
  u64: "18446744073709551615",
};
const ABOVE_MAX: Readonly<Record<string, string>> = {
  u8: "256",
  u16: "65536",
  u32: "4294967296",
  i32: "2147483648",
  usize: "18446744073709551616",
  u64: "18446744073709551616",
};

const TOGGLES = ["on", "OFF", "True", "false", "", "yes", "1", '"on"'];
const NUMBERS = ["0", "1", "+2", '"3"', " 4 ", "", "-", "0x1", "1K", "one", "1.0", '""'];
const SIZES = [
  "0",
  "1",
  "4K",
  "2M",
  "+1G",
  '"2M"',
  "",
  "1T",
  "1k",
  "1 K",
  "1B",
  "K",
  "0x10",
  "-1",
  '""',
  '" 2M "',
  '" "',
  '"2 M"',
];
const TEXTS = ["a", '"a,b"', "a=b", "[a,b]", "", '""', '"a""b"', " a b ", "a]", '"a', "é"];
const LISTS = [
  "[1]",
  "1",
  "[0,1]",
  "0-1",
  "[0,+1]",
  "",
  "[]",
  "[1-0]",
  "[1-1]",
  "x",
  '["1"]',
  "[ 1]",
  "[[1]]",
  "[1,]",
];
const STRING_LISTS = [
  "a",
  "[a]",
  "[a,b]",
  '["a,b",c]',
  "[ a , b ]",
  "",
  "[]",
  "[a,[b,c]]",
  "[a,[b],c]",
  '"[a]"',
];
const MACS = ["AA:bb:cc:dd:ee:ff", "", "a", "aabbccddeeff", "aa:bb:cc:dd:ee", '"aa:bb:cc:dd:ee:ff"'];
const ADDRESSES = [
  "10.0.0.1",
  "FE80::0001",
  "::ffff:1.2.3.4",
  "::",
  "",
  "x",
  "01.2.3.4",
  "1.2.3",
  "1::2::3",
  '"10.0.0.1"',
];
const TUPLE_SHAPES = (key: string, value: string, list: string) => [
  `[${key}@${value}]`,
  `[${key}@${list}]`,
  `[${key}@${value},${key}@${value}]`,
  `["${key}"@${value}]`,
  `[ ${key}@${value}]`,
  "",
  "[]",
  `${key}@${value}`,
  `[${key}]`,
  `[@${value}]`,
  `[${key}@]`,
  `[${key}@${value}@${value}]`,
  `[${key}@${value},]`,
  `[[${key}@${value}]]`,
  `"[${key}@${value}]"`,
  `[${key}@x]`,
  `[${key}@"${value}"]`,
];

/** Values to try for `parameter`, good and bad. */
export function valuesFor(parameter: Parameter): string[] {
  switch (parameter.kind) {
    case "toggle":
      return TOGGLES;
    case "size":
      return SIZES;
    case "u8":
    case "u16":
    case "u32":
    case "i32":
    case "usize":
    case "u64":
      return [...NUMBERS, NUMBER_MAX[parameter.kind], ABOVE_MAX[parameter.kind]];
    case "hex16":
      return ["0x1", "0xFF", "1", "0x", ""];
    case "string":
      return TEXTS;
    case "mac":
      return MACS;
    case "ip":
      return ADDRESSES;
    case "u16List":
    case "u32List":
    case "i32List":
    case "usizeList":
      return LISTS;
    case "stringList":
      return STRING_LISTS;
    case "choice": {
      const words = Object.keys(parameter.choices);
      return [...words, words[0].toUpperCase(), `"${words[0]}"`, "", "nonsense"];
    }
    case "tuples":
      return parameter.tuple.key[1] === "string"
        ? TUPLE_SHAPES("id", "1", "[0,1]")
        : TUPLE_SHAPES("0", "1", "[0-1]");
    case "word":
    case "special":
      return [];
  }
}

/**
 * Option values that try every parameter of `table` with every value, beside `base`, which holds what the option cannot do
 * without. `extra`: further values by key.
 */
export function optionValues(
  table: ParameterTable,
  base: Readonly<Record<string, string>>,
  extra: Readonly<Record<string, readonly string[]>> = {},
): string[] {
  const join = (pairs: Readonly<Record<string, string>>) =>
    Object.entries(pairs).map(([key, value]) => `${key}=${value}`).join(",");
  const values = new Set<string>();
  for (const [key, parameter] of Object.entries(table)) {
    const { [key]: _, ...rest } = base;
    for (const value of [...valuesFor(parameter), ...extra[key] ?? []]) {
      const others = join(rest);
      values.add(others === "" ? `${key}=${value}` : `${others},${key}=${value}`);
    }
    values.add(join(rest));
    if (parameter.kind !== "word") values.add(key);
  }
  const whole = join(base);
  for (
    const text of [
      "",
      "nonsense",
      "nonsense=1",
      `${whole},`,
      `,${whole}`,
      ` ${whole} `,
      `${whole},,`,
      `${whole}, id=x`,
    ]
  ) {
    values.add(text);
  }
  return [...values];
}

/** Values the original accepts, changed: here they are refused. */
export const STRICTER: readonly (readonly [command: string, value: string, why: string])[] = [
  ["add-pmem", "file=a,size=64KM", "several suffixes"],
  ["add-pmem", "file=a,size=18014398509481984K", "wraps around to 0"],
  ["add-net", "fd=4294967296", "truncated to descriptor 0"],
  ["add-disk", "num_queues=9007199254740993", "no number of queues"],
  ["add-disk", "queue_affinity=[0@[18446744073709551615]]", "no CPU number"],
];

/** Characters the syntax gives a meaning. */
const SYNTAX = ['"', "[", "]", ",", "=", "@", "-", " ", ":", "+", "0", "9", "é", "K"];

/** A random option value: mostly parameters of `table` with values of their kind, sometimes damaged. */
export function randomOptionValue(table: ParameterTable, random: Random): string {
  const keys = Object.keys(table);
  const parts = Array.from({ length: random.below(6) }, () => {
    const key = random.chance(0.03) ? "nonsense" : random.pick(keys);
    const values = Object.hasOwn(table, key) ? valuesFor(table[key]) : [];
    return random.chance(0.03) || values.length === 0 ? key : `${key}=${random.pick(values)}`;
  });
  let text = parts.join(",");
  while (random.chance(0.25)) {
    const at = random.below(text.length + 1);
    const inserted = random.chance(0.7) ? random.pick(SYNTAX) : "";
    text = text.slice(0, at) + inserted + text.slice(at + (inserted === "" ? 1 : 0));
  }
  return text;
}
