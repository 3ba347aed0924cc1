/**
 * An operation that the present state of the VM does not allow.
 *
 * L0, main isolate. Source: spec/rest-api.md §1.2 and §4, spec/observed.md "Order and status".
 */
import { type ErrorCode, type ErrorStatus, VmmError } from "./vmm_error.ts";

/** An operation refused because of the state the VM is in; one factory per condition. */
export class StateError extends VmmError {
  readonly code: ErrorCode;
  readonly status: ErrorStatus;
  private readonly below: readonly string[];

  constructor(
    code: ErrorCode,
    status: ErrorStatus,
    messages: readonly [string, ...string[]],
    options?: ErrorOptions,
  ) {
    super(messages[0], options);
    this.code = code;
    this.status = status;
    this.below = messages.slice(1);
  }

  override chain(): string[] {
    const [own, ...causes] = super.chain();
    return [own, ...this.below, ...causes];
  }

  /** 404: no instance and no configuration. */
  static notCreated(): StateError {
    return new StateError("VM_NOT_CREATED", 404, ["VM is not created"]);
  }

  /** 404: nothing to boot. */
  static configMissing(): StateError {
    return new StateError("VM_CONFIG_MISSING", 404, ["VM config is missing"]);
  }

  /** 500: a configuration or an instance exists already. */
  static alreadyCreated(): StateError {
    return new StateError("VM_ALREADY_CREATED", 500, ["VM is already created"]);
  }

  /** 500: there is no instance. */
  static notRunning(): StateError {
    return new StateError("VM_NOT_RUNNING", 500, ["VM is not running"]);
  }

  /** 500: an outgoing migration owns the VM. */
  static migrating(): StateError {
    return new StateError("VM_MIGRATING", 500, ["VM is currently migrating and can't be modified"]);
  }

  /** 500: memory of a restored VM is still being read. */
  static restoring(): StateError {
    return new StateError("VM_RESTORING", 500, ["VM on-demand memory restore is still in progress"]);
  }

  /** 404: no device `id`. */
  static noDeviceToRemove(id: string): StateError {
    return new StateError("DEVICE_UNKNOWN", 404, [`No device with id "${id}" to remove`]);
  }

  /** 429: the guest has not released a CPU yet. The API answers `["Too Many Requests"]` alone. */
  static resizePending(): StateError {
    return new StateError("RESIZE_PENDING", 429, ["Too Many Requests"]);
  }

  /**
   * 500: `from` does not lead to `to`. `above` are the operation's own texts, as
   * `["Cannot pause VM", "Failed to pause migratable component"]`.
   */
  static invalidTransition(above: readonly string[], from: string, to: string): StateError {
    const last = `Invalid transition: InvalidStateTransition(${from}, ${to})`;
    const [first, ...rest] = [...above, last];
    return new StateError("VM_INVALID_TRANSITION", 500, [first, ...rest]);
  }

  /** 500: refused for another reason, in the words given, outermost first. */
  static refused(first: string, ...below: string[]): StateError {
    return new StateError("OPERATION_REFUSED", 500, [first, ...below]);
  }
}
