/**
 * All operations by name.
 *
 * L6, main isolate.
 */
import type { OperationName } from "./command.ts";
import type { Operation } from "./operation.ts";
import { vmmPing } from "./operations/vmm_ping.ts";
import { vmmShutdown } from "./operations/vmm_shutdown.ts";
import { vmCreate } from "./operations/vm_create.ts";
import { vmDelete } from "./operations/vm_delete.ts";
import { vmBoot } from "./operations/vm_boot.ts";
import { vmShutdown } from "./operations/vm_shutdown.ts";
import { vmReboot } from "./operations/vm_reboot.ts";
import { vmPowerButton } from "./operations/vm_power_button.ts";
import { vmPause } from "./operations/vm_pause.ts";
import { vmResume } from "./operations/vm_resume.ts";
import { vmNmi } from "./operations/vm_nmi.ts";
import { vmInfo } from "./operations/vm_info.ts";
import { vmCounters } from "./operations/vm_counters.ts";
import { vmSnapshot } from "./operations/vm_snapshot.ts";
import { vmRestore } from "./operations/vm_restore.ts";
import { vmCoredump } from "./operations/vm_coredump.ts";
import { vmResize } from "./operations/vm_resize.ts";
import { vmResizeZone } from "./operations/vm_resize_zone.ts";
import { vmResizeDisk } from "./operations/vm_resize_disk.ts";
import { vmAddDevice } from "./operations/vm_add_device.ts";
import { vmAddUserDevice } from "./operations/vm_add_user_device.ts";
import { vmAddDisk } from "./operations/vm_add_disk.ts";
import { vmAddFs } from "./operations/vm_add_fs.ts";
import { vmAddPmem } from "./operations/vm_add_pmem.ts";
import { vmAddNet } from "./operations/vm_add_net.ts";
import { vmAddVdpa } from "./operations/vm_add_vdpa.ts";
import { vmAddVsock } from "./operations/vm_add_vsock.ts";
import { vmAddGenericVhostUser } from "./operations/vm_add_generic_vhost_user.ts";
import { vmRemoveDevice } from "./operations/vm_remove_device.ts";
import { vmReceiveMigration } from "./operations/vm_receive_migration.ts";
import { vmSendMigration } from "./operations/vm_send_migration.ts";

/** Every operation; a name without one does not compile. */
export const OPERATIONS: { readonly [N in OperationName]: Operation<N> } = {
  "vmm.ping": vmmPing,
  "vmm.shutdown": vmmShutdown,
  "vm.create": vmCreate,
  "vm.delete": vmDelete,
  "vm.boot": vmBoot,
  "vm.shutdown": vmShutdown,
  "vm.reboot": vmReboot,
  "vm.power-button": vmPowerButton,
  "vm.pause": vmPause,
  "vm.resume": vmResume,
  "vm.nmi": vmNmi,
  "vm.info": vmInfo,
  "vm.counters": vmCounters,
  "vm.snapshot": vmSnapshot,
  "vm.restore": vmRestore,
  "vm.coredump": vmCoredump,
  "vm.resize": vmResize,
  "vm.resize-zone": vmResizeZone,
  "vm.resize-disk": vmResizeDisk,
  "vm.add-device": vmAddDevice,
  "vm.add-user-device": vmAddUserDevice,
  "vm.add-disk": vmAddDisk,
  "vm.add-fs": vmAddFs,
  "vm.add-pmem": vmAddPmem,
  "vm.add-net": vmAddNet,
  "vm.add-vdpa": vmAddVdpa,
  "vm.add-vsock": vmAddVsock,
  "vm.add-generic-vhost-user": vmAddGenericVhostUser,
  "vm.remove-device": vmRemoveDevice,
  "vm.receive-migration": vmReceiveMigration,
  "vm.send-migration": vmSendMigration,
};
