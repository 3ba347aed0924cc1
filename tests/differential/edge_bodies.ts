/**
 * Hand-picked bodies for the JSON reader: syntax, numbers, strings, nesting, enumerations, flattened structures,
 * structures by position.
 *
 * Tests only.
 */
const inside = (before: string, after: string) => (value: string) => before + value + after;
const NONE = "null";

/** Structures that are accepted by position: where they stand, and a value for each field. */
const POSITIONAL: readonly (readonly [(value: string) => string, readonly string[]])[] = [
  [inside("", ""), [
    '{"boot_vcpus":1,"max_vcpus":1}',
    '{"size":1}',
    ...[NONE, NONE, NONE, NONE],
    '{"src":"a"}',
    ...[NONE, NONE, NONE, NONE],
    '{"mode":"Null"}',
    '{"mode":"Null"}',
    '{"mode":"Null"}',
    ...[
      NONE,
      NONE,
      NONE,
      NONE,
      "false",
      "false",
      NONE,
      "false",
      NONE,
      "false",
      NONE,
      NONE,
      NONE,
      "false",
      NONE,
      NONE,
    ],
  ]],
  [inside('{"cpus":', "}"), ["1", "1", NONE, "false", "46", NONE, "{}", "true", '"Vm"', '"Host"']],
  [inside('{"cpus":{"boot_vcpus":1,"max_vcpus":1,"topology":', "}}"), ["1", "1", "1", "1"]],
  [inside('{"cpus":{"boot_vcpus":1,"max_vcpus":1,"affinity":[', "]}}"), ["1", "[1]"]],
  [inside('{"cpus":{"boot_vcpus":1,"max_vcpus":1,"features":', "}}"), ["true"]],
  [inside('{"memory":', "}"), [
    ...["1", "false", '"Acpi"', NONE, NONE, "false", "false", NONE, "false", "false", NONE, "true"],
  ]],
  [inside('{"memory":{"size":0,"zones":[', "]}}"), [
    ...['"a"', "1", NONE, "false", "false", NONE, NONE, NONE, NONE, "false", "false", "false"],
  ]],
  [inside('{"payload":', "}"), [NONE, NONE, NONE, NONE, NONE]],
  [inside('{"payload":{"fw_cfg_config":', "}}"), ["true", "true", "true", "true", "true", NONE]],
  [inside('{"payload":{"fw_cfg_config":{"items":', "}}}"), ["[]"]],
  [inside('{"payload":{"fw_cfg_config":{"items":{"item_list":[', "]}}}}"), ['"n"', NONE, NONE]],
  [inside('{"rate_limit_groups":[', "]}"), ['"g"', "{}"]],
  [inside('{"net":[{"rate_limiter_config":', "}]}"), [NONE, NONE]],
  [inside('{"net":[{"rate_limiter_config":{"ops":', "}}]}"), ["1", "2", "3"]],
  [inside('{"disks":[{"queue_affinity":[', "]}]}"), ["1", "[2]"]],
  [inside('{"serial":', "}"), [NONE, '"Null"', NONE]],
  [inside('{"debug_console":', "}"), [NONE, '"Null"', "3"]],
  [inside('{"numa":[{"guest_numa_id":0,"distances":[', "]}]}"), ["1", "2"]],
  [inside('{"numa":[', "]}"), ["0", NONE, NONE, NONE, NONE, NONE]],
  [inside('{"pci_segments":[', "]}"), ["0", "1", "1"]],
  [inside('{"platform":', "}"), [
    ...["1", NONE, "64", NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, "false", NONE, "true"],
  ]],
  [inside('{"tpm":', "}"), ['"s"']],
  [inside('{"landlock_rules":[', "]}"), ['"s"', '"r"']],
];

/** Nested `depth` times: `open` … `close` around `inner`. */
const nested = (depth: number, open: string, close: string, inner = "") =>
  open.repeat(depth) + inner + close.repeat(depth);

const bytes = (...parts: (string | number)[]) =>
  Uint8Array.from(
    parts.flatMap((part) => typeof part === "number" ? [part] : [...new TextEncoder().encode(part)]),
  );

/** Bodies of `vm.create` at the edges of JSON and of the schemas. */
export const EDGE_BODIES: readonly (Uint8Array | string)[] = [
  " ",
  "{",
  "{}}",
  "{} x",
  "[]",
  "null",
  "3",
  '"x"',
  "{,}",
  '{"x"}',
  '{"x":}',
  '{"x":1,}',
  "{x:1}",
  '{"x" 1}',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1},"cpus":{}}',
  '{"cpus" : 3 , "cpus"  : 4}',
  '{"cpus":{"boot_vcpus":1 "max_vcpus":1}}',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1 x}',
  '{"platform":{"uuid":"a","system_uuid":"b"}}',
  '{"platform":{"serial_number":"a" , "serial_number" : "b"}}',
  '{"a":1,"a":2}',
  `{"x":${nested(1000, "[", "]")}}`,
  `{"x":${nested(1000, '{"y":', "}", "1")}}`,
  `{"x":${nested(1000, '[{"y":', "}]", "1")}}`,
  `{"disks":[{"x":${nested(124, "[", "]")}}]}`,
  `{"disks":[{"x":${nested(125, "[", "]")}}]}`,
  `{"disks":[{"x":${nested(126, "[", "]")}}]}`,
  `{"disks":[{"x":${nested(300, '{"y":', "}", "1")}}]}`,
  nested(127, "[", "]"),
  nested(200, "[", "]"),
  '{"x":"\\u12"}',
  '{"x":"\\ud800"}',
  '{"x":"\\udc00\\ud800"}',
  '{"x":"\\q"}',
  '{"x":"\\u12g4"}',
  '{"x":"tab\\there"}',
  '{"x":"a\u0001b"}',
  '{"x":"a\tb"}',
  '{"payload":{"kernel":"a\tb"}}',
  '{"payload":{"kernel":"a\u0001b"}}',
  '{"payload":{"kernel":"\\u12g4"}}',
  '{"payload":{"kernel":"\\ud800"}}',
  '{"payload":{"kernel":"\\ud800\\\\n"}}',
  '{"payload":{"kernel":"\\ud800\\\\u0041"}}',
  '{"payload":{"kernel":"\\udc00"}}',
  '{"payload":{"kernel":"\\ud83d\\ude00 \\u00e9 \\/ \\b\\f\\n\\r\\t"}}',
  '{"payload":{"kernel":"\\u0000\\u001f\\u007f\\u2028"}}',
  '{"payload":{"kernel":"a',
  '{"payload":{"kernel":"\\',
  '{"payload":{"kernel":"\\u1',
  bytes('{"payload":{"kernel":"a', 0xff, 'b"}}'),
  bytes('{"payload":{"kernel":"a', 0xff, '\\q"}}'),
  bytes('{"payload":{"kernel":"', 0xc3, '\\u00a9"}}'),
  bytes('{"payload":{"kernel":"', 0xed, 0xa0, 0x80, '"}}'),
  bytes('{"x":"', 0xff, 0xfe, '"}'),
  bytes('{"', 0xff, '":1}'),
  bytes(0xef, 0xbb, 0xbf, "{}"),
  bytes('{"disks":[{"x":"', 0xff, '"}]}'),
  '{"memory":{"size":"a\\"b\\\\c\\n\\t\\u0007\\u00a0\\u0301\\u200b\\ue000\\u00e9 \\u3000"}}',
  '{"memory":{"size":"\\ud83d\\ude00\\ufeff\\u00ad\\u0600"}}',
  '{"memory":{"hotplug_method":"x"}}',
  '{"memory":{"hotplug_method":{"Acpi":null , }}}',
  '{"memory":{"hotplug_method":{"Acpi":null,"x":1}}}',
  '{"memory":{"hotplug_method":{"Acpi":1}}}',
  '{"memory":{"hotplug_method":{"Acpi":[]}}}',
  '{"memory":{"hotplug_method":{"Acpi":',
  '{"memory":{"hotplug_method":{"Acpi":null',
  ...["", "}", "1", "null", "[]", ",", ":", '"', '"Acpi"', " 1"].map((key) =>
    `{"memory":{"hotplug_method":{${key}`
  ),
  '{"memory":{"hotplug_method":{1:null}}}',
  '{"memory":{"hotplug_method":["Acpi"]}}',
  '{"memory":{"hotplug_method":',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1,"core_scheduling":"x"}}',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1,"profile":"x"}}',
  '{"disks":[{"image_type":"x"}]}',
  '{"disks":[{"lock_granularity":"x"}]}',
  '{"net":[{"vhost_mode":"x"}]}',
  '{"debug_console":{"mode":"x"}}',
  '{"serial":{"mode":"x"}}',
  '{"serial":{"mode":{"Null":null}}}',
  '{"serial":{"mode":{"Null":{}}}}',
  '{"serial":{"mode":{"Null":3}}}',
  '{"serial":{"mode":{"Null":null,"Tty":null}}}',
  '{"serial":{"mode":["Null"]}}',
  '{"serial":{"mode":"Null","mode":"Tty"}}',
  '{"serial":{"file":3,"mode":"Null","file":"a"}}',
  '{"serial":{"mode":null}}',
  '{"serial":{}}',
  '{"console":{"id":3}}',
  '{"console":{"id":3,"mode":"Null"}}',
  '{"console":{"iommu":null,"mode":"Null"}}',
  '{"console":{"pci_segment":65536,"mode":"Null"}}',
  '{"console":{"pci_segment":-0,"mode":"Null"}}',
  '{"console":{"pci_segment":1e2,"mode":"Null"}}',
  '{"console":{"pci_device_id":-1,"mode":"Null"}}',
  '{"console":{"pci_device_id":null,"id":null,"mode":"Null"}}',
  '{"disks":[{"id":"a","id":"b"}]}',
  '{"disks":[{"path":"a","path":"b"}]}',
  '{"disks":[{"id":"a"}, {"id":3 } \n]}',
  '{"net":[{"mac":3}]}',
  '{"net":[{"mac":"x" , "ip":"q"}]}',
  '{"net":[{"mac":"x"',
  '{"net":[{"mac":"x at line 3 column 4"}]}',
  '{"net":[{"ip":"1.2.3.4.5"}]}',
  '{"net":[{"fds":["x"]}]}',
  '{"net":[{"fds":[4294967296]}]}',
  '{"net":[{"fds":null,"mac":null,"host_mac":null,"ip":null}]}',
  '{"devices":[{"fd":2147483648}]}',
  '{"platform":{"iommufd_fd":-2147483649}}',
  '{"net":[{"rate_limiter_config":{"ops":null,"bandwidth":{"size":1,"refill_time":1,"x":1}}}]}',
  '{"net":[{"rate_limiter_config":{"size":1}}]}',
  '{"net":[{"rate_limiter_config":[null,null]}]}',
  ...["-0", "1e5", "1.5", "1e16", "1.25e300", "1e309", "3.3e-300", "0.00001", "1e-6", "18446744073709551615"]
    .map(
      (number) => `{"memory":{"size":${number}}}`,
    ),
  ...[
    "18446744073709551616",
    "-9223372036854775809",
    "0e99999999999",
    "1e-99999999999",
    "01",
    "-",
    "1.",
    "1e+",
  ].map(
    (number) => `{"memory":{"size":${number}}}`,
  ),
  ...["01", "-01", "-", "1.", "1e", "1e+", "-x", "1.e3", "0.0e-0", "1E5"].map((number) => `{"x":${number}}`),
  ...["1e400", "-0", "1.5", "18446744073709551616"].map((number) => `{"disks":[{"id":${number}}]}`),
  ...POSITIONAL.flatMap(([wrap, values]) =>
    Array.from(
      { length: values.length + 2 },
      (_, count) => wrap(`[${[...values, "null"].slice(0, count).join(",")}]`),
    )
  ),
];

/** `body` as text: bytes that are not UTF-8 in hexadecimal. */
export function printable(body: Uint8Array | string): string {
  return typeof body === "string" ? body : `hex:${body.toHex()}`;
}

/** The body `printable()` was made of. */
export function unprintable(text: string): Uint8Array | string {
  return text.startsWith("hex:") ? Uint8Array.fromHex(text.slice("hex:".length)) : text;
}
