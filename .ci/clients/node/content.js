// The whole corpus through an idempotent producer in all codecs, read back and sought by time.
import assert from 'node:assert/strict'

import { eventually } from './checks.js'
import { TYPE_OF_CODEC } from './codecs.js'
import * as corpus from './corpus.js'

const CHUNK = 2_000

/**
 * With `tormented`, nodes are killed meanwhile. Then each request of a producer has one partition. kafkajs 2.2.4 keeps the answers of a send by broker: when
 * a partition of a failed request is led by a broker that has answered already, that one is not asked again, and the
 * records are dropped without an error (src/producer/sendMessages.js). And a reader that loses its coordinator begins
 * again from what is committed, which is nothing here: it may read records again, but must skip none.
 */
export async function content(session, checks, tormented = false) {
  const topic = session.name('content')
  await checks.run('content: create topic', () =>
    session.withAdmin((admin) =>
      admin.createTopics({
        topics: [
          {
            topic,
            numPartitions: corpus.PARTITIONS,
            // The corpus is dated in the past, so retention by time would take it away.
            configEntries: [{ name: 'retention.ms', value: '-1' }],
          },
        ],
      }),
    ),
  )
  for (const codec of corpus.CODECS) {
    await checks.run(`content: produce ${codec}`, () => produce(session, topic, codec, tormented))
  }
  await checks.run('content: every record once, in order, unchanged', () => consume(session, topic, tormented))
  await checks.run('content: earliest and latest offsets', () => ends(session, topic))
  await checks.run('content: offsets for times', () => times(session, topic))
  await checks.run('content: seek', () => seek(session, topic))
}

async function produce(session, topic, codec, apart) {
  const producer = session.kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  try {
    const first = corpus.CODECS.indexOf(codec) * corpus.PER_CODEC
    for (let start = first; start < first + corpus.PER_CODEC; start += CHUNK) {
      const messages = Array.from({ length: CHUNK }, (_, i) => corpus.message(start + i))
      const answers = []
      for (const sent of apart ? byPartition(messages) : [messages]) {
        const compression = TYPE_OF_CODEC[codec]
        answers.push(...(await producer.send({ topic, acks: -1, compression, messages: sent })))
      }
      assert.equal(answers.length, corpus.PARTITIONS)
      for (const answer of answers) {
        let number = start
        while (corpus.partition(number) !== answer.partition) number += 1
        assert.equal(answer.baseOffset, String(corpus.offset(number)), `offset of record ${number}`)
      }
    }
  } finally {
    await producer.disconnect()
  }
}

function byPartition(messages) {
  const partitions = Array.from({ length: corpus.PARTITIONS }, () => [])
  for (const message of messages) partitions[message.partition].push(message)
  return partitions
}

/**
 * Reads with a group of its own, as kafkajs always does, until `done` says so. `onJoined` is called each time that the
 * consumer has joined: one that cannot reach its group for long begins anew.
 */
async function read(session, topic, onJoined, onMessage, done) {
  const consumer = session.kafka.consumer({
    groupId: session.name(`reader-${Math.random().toString(36).slice(2)}`),
    heartbeatInterval: 500,
  })
  await consumer.connect()
  let problem
  consumer.on(consumer.events.GROUP_JOIN, () => onJoined(consumer))
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        try {
          for (const message of batch.messages) onMessage(batch.partition, message)
        } catch (caught) {
          problem ??= caught
        }
      },
    })
    await eventually('all records read', 60_000, () => problem || done())
  } finally {
    await consumer.disconnect()
  }
  if (problem) throw problem
}

async function consume(session, topic, mayRepeat) {
  const following = new Array(corpus.PARTITIONS).fill(0)
  let seen = 0
  await read(
    session,
    topic,
    () => {},
    (partition, message) => {
      corpus.verify(partition, message)
      if (mayRepeat && Number(message.offset) < following[partition]) return
      assert.equal(message.offset, String(following[partition]), `next offset of ${partition}`)
      following[partition] += 1
      seen += 1
    },
    () => seen >= corpus.TOTAL,
  )
  assert.equal(seen, corpus.TOTAL)
}

async function ends(session, topic) {
  const offsets = await session.withAdmin((admin) => admin.fetchTopicOffsets(topic))
  assert.equal(offsets.length, corpus.PARTITIONS)
  for (const { partition, low, high } of offsets) {
    assert.equal(low, '0', `earliest of ${partition}`)
    assert.equal(high, String(corpus.length(partition)), `latest of ${partition}`)
  }
}

async function times(session, topic) {
  await session.withAdmin(async (admin) => {
    for (const wanted of [0, 1, 19_999, 20_000, 43_210, 77_777, corpus.TOTAL - 1]) {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, corpus.FIRST_TIMESTAMP + wanted)
      for (const { partition, offset } of found) {
        let number = wanted
        while (corpus.partition(number) !== partition) number += 1
        // kafkajs answers with the end offset where no record is that late.
        const expected = Math.min(corpus.offset(number), corpus.length(partition))
        assert.equal(offset, String(expected), `at or after ${wanted} in ${partition}`)
      }
    }
  })
}

async function seek(session, topic) {
  const last = corpus.TOTAL - 1
  const target = corpus.partition(last)
  let found
  await read(
    session,
    topic,
    (consumer) => consumer.seek({ topic, partition: target, offset: String(corpus.offset(last)) }),
    (partition, message) => {
      corpus.verify(partition, message)
      if (partition === target && Number(message.offset) === corpus.offset(last)) found = message
    },
    () => found,
  )
}
