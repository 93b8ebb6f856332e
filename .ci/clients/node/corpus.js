// The records that every client suite writes and reads: a pure function of their number. The rules stand
// in ../README.md.
import assert from 'node:assert/strict'

export const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
export const PER_CODEC = 20_000
export const TOTAL = PER_CODEC * CODECS.length
export const PARTITIONS = 6
export const FIRST_TIMESTAMP = 1_700_000_000_000

const PADDING = Buffer.from('corelane '.repeat(40))

export const partition = (number) => number % PARTITIONS

/** The one offset that a record can have when its partition holds the corpus from the start. */
export const offset = (number) => Math.floor(number / PARTITIONS)

/** How many records of the corpus a partition holds. */
export const length = (of) => Math.floor((TOTAL - of + PARTITIONS - 1) / PARTITIONS)

export const timestamp = (number) => String(FIRST_TIMESTAMP + number)

const key = (number) => (number % 1000 === 7 ? null : Buffer.from(`key-${number}`))

function value(number) {
  switch (number % 1000) {
    case 9:
      return null
    case 11:
      return Buffer.alloc(0)
    default:
      return Buffer.concat([
        Buffer.from(`value-${number}-`),
        PADDING.subarray(0, 100 + (number % 150)),
      ])
  }
}

const headers = (number) => ({
  codec: Buffer.from(CODECS[Math.floor(number / PER_CODEC)]),
  number: Buffer.from(String(number)),
  twice: [Buffer.from('a'), Buffer.from('b')],
})

export const message = (number) => ({
  partition: partition(number),
  timestamp: timestamp(number),
  key: key(number),
  value: value(number),
  headers: headers(number),
})

const same = (a, b) => (a === null || b === null ? a === b : a.equals(b))

/** Every field of a record that was read; its number follows from where it lay. */
export function verify(at, read) {
  const number = Number(read.offset) * PARTITIONS + at
  const where = `partition ${at} offset ${read.offset}`
  assert(number < TOTAL, `${where}: beyond the corpus`)
  assert(same(key(number), read.key), `${where}: key differs: ${read.key}`)
  assert(same(value(number), read.value), `${where}: value differs: ${read.value}`)
  assert.equal(read.timestamp, timestamp(number), `${where}: timestamp differs`)
  const expected = headers(number)
  assert.deepEqual(Object.keys(read.headers), Object.keys(expected), `${where}: headers differ`)
  assert(same(expected.codec, read.headers.codec), `${where}: header codec differs`)
  assert(same(expected.number, read.headers.number), `${where}: header number differs`)
  assert.deepEqual(read.headers.twice.map(String), ['a', 'b'], `${where}: header twice differs`)
}
