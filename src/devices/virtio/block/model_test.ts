import assert from "node:assert/strict";
import { featureMask } from "@vmm/virtio/features.ts";
import { blockModel, type BlockModelOptions, setCapacity } from "./model.ts";
import { BlockConfig, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_WRITE_ZEROES } from "./spec.ts";

const options: BlockModelOptions = {
  sizeBytes: (2 ** 33 + 1) * 512 + 100,
  readonly: false,
  canZero: true,
  sparse: true,
  numQueues: 1,
  queueSize: 128,
  iommu: false,
  topology: { logical: 512, physical: 4096, minimumIo: 4096, optimalIo: 65536 },
};
const view = (config: Uint8Array) => new DataView(config.buffer);

Deno.test("blockModel() fills the configuration", () => {
  const { config, features, queueSizes, configWritable } = blockModel(options);
  const at = view(config);
  assert.equal(config.byteLength, 60);
  assert.equal(at.getBigUint64(BlockConfig.capacity, true), 2n ** 33n + 1n);
  assert.equal(at.getUint32(BlockConfig.seg_max, true), 126);
  assert.equal(at.getUint32(BlockConfig.blk_size, true), 512);
  assert.equal(config[BlockConfig.physical_block_exp], 3);
  assert.equal(at.getUint16(BlockConfig.min_io_size, true), 8);
  assert.equal(at.getUint32(BlockConfig.opt_io_size, true), 128);
  assert.equal(config[BlockConfig.writeback], 1);
  assert.equal(at.getUint16(BlockConfig.num_queues, true), 0);
  assert.equal(at.getUint32(BlockConfig.max_discard_sectors, true), 0xffff_ffff);
  assert.equal(at.getUint32(BlockConfig.discard_sector_alignment, true), 1);
  assert.equal(config[BlockConfig.write_zeroes_may_unmap], 1);
  assert.deepEqual(queueSizes, [128]);
  assert.equal(features, featureMask(2, 6, 9, 10, 11, 13, 14, 28, 29, 32));
  assert.deepEqual([...configWritable!.keys()].filter((i) => configWritable![i] !== 0), [
    BlockConfig.writeback,
  ]);
});

Deno.test("blockModel() offers what the image can do", () => {
  const offers = (change: Partial<BlockModelOptions>, bit: number) =>
    (blockModel({ ...options, ...change }).features & featureMask(bit)) !== 0n;
  assert.ok(offers({ readonly: true }, VIRTIO_BLK_F_RO));
  assert.ok(!offers({ sparse: false }, VIRTIO_BLK_F_DISCARD));
  assert.ok(offers({ sparse: false }, VIRTIO_BLK_F_WRITE_ZEROES));
  assert.ok(!offers({ canZero: false }, VIRTIO_BLK_F_WRITE_ZEROES));
  assert.ok(!offers({ iommu: true }, 28) && offers({ iommu: true }, 33));
  const four = blockModel({
    ...options,
    numQueues: 4,
    sparse: false,
    topology: { ...options.topology, logical: 4096 },
  });
  assert.equal(view(four.config).getUint16(BlockConfig.num_queues, true), 4);
  assert.equal(four.config[BlockConfig.physical_block_exp], 0);
  assert.equal(four.config[BlockConfig.write_zeroes_may_unmap], 0);
  assert.equal(four.queueSizes.length, 4);
});

Deno.test("setCapacity() writes whole sectors", () => {
  const { config } = blockModel(options);
  setCapacity(config, 1535);
  assert.equal(view(config).getBigUint64(BlockConfig.capacity, true), 2n);
});
