/**
 * What our tables say about the C ABI, as C expressions with the value we use.
 *
 * For `abi_check.ts`: collects from every module in `ffi/` the structure tables, the ioctl codes and the exported
 * constant groups listed here.
 *
 * @module
 */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ALL_IOCTLS } from "@ffi/abi/ioctl.ts";
import { ALL_STRUCTS, type StructLayout } from "@ffi/abi/struct.ts";
import { ROOT, sourceFiles } from "../source_tree.ts";

/** A C expression, the header that makes it compile, and the value our tables give it. */
export interface Fact {
  header: string;
  expression: string;
  value: number;
}

/** Fields that stand for a run of C fields or a union: no C name, only covered by the structure's size. */
const OPAQUE = new Set(["raw", "rest", "times"]);

/** Fields whose C name is a path into a union. */
const C_NAMES: Record<string, string> = {
  "kvm_irq_routing_entry.address_lo": "u.msi.address_lo",
  "kvm_irq_routing_entry.address_hi": "u.msi.address_hi",
  "kvm_irq_routing_entry.data": "u.msi.data",
  "kvm_irq_routing_entry.devid": "u.msi.devid",
};

/** Exported constants by export name: how the C name is made of ours, and the header that defines it. */
const CONSTANTS: Record<string, { header: string; prefix?: string; names?: Record<string, string> }> = {
  Errno: { header: "errno.h" },
  EPOLL: { header: "sys/epoll.h", prefix: "EPOLL" },
  FALLOC: { header: "linux/falloc.h", prefix: "FALLOC_FL_" },
  FileType: {
    header: "sys/stat.h",
    names: { regular: "S_IFREG", block: "S_IFBLK", character: "S_IFCHR", directory: "S_IFDIR" },
  },
  S_IFMT: { header: "sys/stat.h", prefix: "S_IFMT" },
  O: { header: "fcntl.h", prefix: "O_" },
  IOVEC_SIZE: { header: "sys/uio.h", prefix: "sizeof(struct iovec)" },
  MADV: { header: "sys/mman.h", prefix: "MADV_" },
  MAP: { header: "sys/mman.h", prefix: "MAP_" },
  MSG: { header: "sys/socket.h", prefix: "MSG_" },
  PROT: { header: "sys/mman.h", prefix: "PROT_" },
  SYS: { header: "sys/syscall.h", prefix: "SYS_" },
  IOEVENTFD_FLAG: { header: "linux/kvm.h", prefix: "KVM_IOEVENTFD_FLAG_" },
  IRQFD_FLAG: { header: "linux/kvm.h", prefix: "KVM_IRQFD_FLAG_" },
  KVM_API_VERSION: { header: "linux/kvm.h", prefix: "KVM_API_VERSION" },
  KVM_IRQ_ROUTING: { header: "linux/kvm.h", prefix: "KVM_IRQ_ROUTING_" },
  KVM_MEM: { header: "linux/kvm.h", prefix: "KVM_MEM_" },
  KvmCap: { header: "linux/kvm.h", prefix: "KVM_CAP_" },
  KvmExit: { header: "linux/kvm.h", prefix: "KVM_EXIT_" },
  X2APIC_API: { header: "linux/kvm.h", prefix: "KVM_X2APIC_API_" },
  RunPage: { header: "linux/kvm.h", prefix: "offsetof(struct kvm_run, " },
};

/** Groups of numbers in `ffi/` that are no ABI facts of their own: ioctl codes are collected elsewhere. */
const NOT_ABI = new Set(["KVM", "ALL_STRUCTS", "ALL_IOCTLS"]);

/** Headers of the ioctl codes, by the start of their name. */
const IOCTL_HEADERS: [prefix: string, header: string][] = [
  ["KVM_", "linux/kvm.h"],
  ["TUN", "linux/if_tun.h"],
  ["T", "asm/ioctls.h"],
  ["BLK", "linux/fs.h"],
  ["VHOST_", "linux/vhost.h"],
];

/** All facts of the modules in `ffi/`, and what could not be turned into one. */
export async function collectFacts(): Promise<{ facts: Fact[]; problems: string[] }> {
  const problems: string[] = [];
  const facts: Fact[] = [];
  for (const path of await sourceFiles()) {
    if (!path.startsWith("ffi/") || path.endsWith("_test.ts")) continue;
    const module = await import(pathToFileURL(join(ROOT, path)).href);
    for (const [name, value] of Object.entries(module)) {
      if (typeof value === "function" || NOT_ABI.has(name) || isStruct(value)) continue;
      const found = constantFacts(name, value);
      if (found) facts.push(...found);
      else if (typeof value === "object") {
        problems.push(`${path}: export "${name}" is not listed in scripts/abi/facts.ts`);
      }
    }
  }
  for (const layout of ALL_STRUCTS) facts.push(...structFacts(layout));
  for (const { name, code } of ALL_IOCTLS) {
    const header = IOCTL_HEADERS.find(([prefix]) => name.startsWith(prefix))?.[1];
    if (header) facts.push({ header, expression: name, value: code });
    else problems.push(`ioctl ${name}: no header known for it in scripts/abi/facts.ts`);
  }
  return { facts, problems };
}

function isStruct(value: unknown): value is StructLayout {
  return typeof value === "object" && value !== null && "offsets" in value;
}

/** sizeof, and offset and size of each field that has a C name. */
export function structFacts({ name, size, source, fields }: StructLayout): Fact[] {
  const facts: Fact[] = [{ header: source, expression: `sizeof(struct ${name})`, value: size }];
  for (const [field, layout] of Object.entries(fields)) {
    if (OPAQUE.has(field)) continue;
    const member = C_NAMES[`${name}.${field}`] ?? field;
    facts.push(
      { header: source, expression: `offsetof(struct ${name}, ${member})`, value: layout.offset },
      { header: source, expression: `sizeof(((struct ${name} *)0)->${member})`, value: layout.size },
    );
  }
  return facts;
}

/** The facts of one export: a number, or an object of numbers, possibly nested; undefined if it is not listed. */
export function constantFacts(name: string, value: unknown): Fact[] | undefined {
  const rule = CONSTANTS[name];
  if (!rule) return undefined;
  const { header, prefix = "", names = {} } = rule;
  const facts: Fact[] = [];
  const visit = (path: string, item: unknown): void => {
    if (typeof item === "number" || typeof item === "bigint") {
      let expression = names[path] ?? prefix + path;
      if (expression.includes("(") && !expression.endsWith(")")) expression += ")";
      facts.push({ header, expression, value: Number(item) });
      return;
    }
    for (const [key, child] of Object.entries(item as Record<string, unknown>)) {
      visit(path === "" ? key : `${path}.${key}`, child);
    }
  };
  visit("", value);
  return facts;
}
