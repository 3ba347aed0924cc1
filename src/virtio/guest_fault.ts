/**
 * What a guest's driver did wrong.
 *
 * L3, any isolate.
 */

/** A fault of the guest's driver: a value, never an exception. */
export interface GuestFault {
  readonly fault: string;
}
