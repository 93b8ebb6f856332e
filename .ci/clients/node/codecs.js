// kafkajs brings gzip alone; the others are plugged in as its documentation tells.
import { compress as compressZstd, decompress as decompressZstd, init } from '@bokuweb/zstd-wasm'
import kafkajs from 'kafkajs'
import { compressFrame, decompressFrame } from 'lz4-napi'
import { compress, uncompress } from 'snappy'

await init()

const { CompressionCodecs, CompressionTypes } = kafkajs

const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])
const XERIAL_HEADER_BYTES = 16

// The Java client frames snappy blocks; other clients send one plain block. Brokers keep both as they are.
async function decompressSnappy(buffer) {
  if (!buffer.subarray(0, XERIAL.length).equals(XERIAL)) {
    return uncompress(buffer)
  }
  const blocks = []
  for (let at = XERIAL_HEADER_BYTES; at < buffer.length; ) {
    const size = buffer.readInt32BE(at)
    blocks.push(await uncompress(buffer.subarray(at + 4, at + 4 + size)))
    at += 4 + size
  }
  return Buffer.concat(blocks)
}

CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: (encoder) => compress(encoder.buffer),
  decompress: decompressSnappy,
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => compressFrame(encoder.buffer),
  decompress: (buffer) => decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(compressZstd(encoder.buffer, 3)),
  decompress: async (buffer) => Buffer.from(decompressZstd(buffer)),
})

export const TYPE_OF_CODEC = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}
