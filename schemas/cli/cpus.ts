/**
 * Parameters of `--cpus`.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "CpusConfig".
 */
import type { CpusConfig } from "@schemas/api/cpus.ts";
import { parametersOf } from "./parameter.ts";

export const cpusParameters = parametersOf<CpusConfig>()({
  boot: {
    kind: "u32",
    field: "boot_vcpus",
    value: "<boot_vcpus>",
    default: 1,
    doc: "vCPUs present at boot",
  },
  max: {
    kind: "u32",
    field: "max_vcpus",
    value: "<max_vcpus>",
    doc: "vCPUs the VM can grow to; as many as at boot when absent",
  },
  topology: {
    kind: "special",
    field: "topology",
    value: "<threads>:<cores>:<dies>:<packages>",
    doc: "CPU topology: threads per core, cores per die, dies per package; the product is `max`",
  },
  kvm_hyperv: { kind: "toggle", field: "kvm_hyperv", default: false, doc: "Hyper-V enlightenments" },
  max_phys_bits: {
    kind: "u8",
    field: "max_phys_bits",
    value: "<bits>",
    default: 46,
    doc: "Upper limit of guest physical address bits",
  },
  affinity: {
    kind: "tuples",
    field: "affinity",
    value: "[<vcpu>@[<host_cpus>],...]",
    tuple: { key: ["vcpu", "u32"], value: ["host_cpus", "usizeList"] },
    doc: "Host CPUs each vCPU may run on",
  },
  features: { kind: "special", field: "features", value: "[amx]", doc: "Optional CPU features to offer" },
  nested: { kind: "toggle", field: "nested", default: true, doc: "Nested virtualisation" },
  core_scheduling: {
    kind: "choice",
    field: "core_scheduling",
    choices: { vm: "Vm", vcpu: "Vcpu", off: "Off" },
    default: "Vm",
    doc: "Which threads share a core-scheduling cookie",
  },
  profile: {
    kind: "choice",
    field: "profile",
    choices: { Host: "Host" },
    exactCase: true,
    default: "Host",
    hidden: true,
    doc: "CPU model",
  },
});
