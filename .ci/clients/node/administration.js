// What operators ask through kafkajs, with the refusals. Its alterConfigs is the legacy call, which
// replaces all of a topic's settings.
import assert from 'node:assert/strict'

import kafkajs from 'kafkajs'

import { eventually, refused } from './checks.js'

const { ConfigResourceTypes } = kafkajs

export async function administration(session, checks) {
  const topic = session.name('admin')
  const group = session.name('admin-group')
  const steps = {
    'describe cluster': cluster,
    'create topic': create,
    'describe and alter configs': configs,
    'create partitions': createPartitions,
    'delete records': deleteRecords,
    'groups: set offsets, list, describe, reset, delete': groups,
    'delete topic': deleteTopic,
  }
  for (const [name, step] of Object.entries(steps)) {
    await checks.run(`admin: ${name}`, () =>
      session.withAdmin((admin) => step(admin, topic, group, session)),
    )
  }
}

async function cluster(admin) {
  // kafkajs asks for all topics, and gives nothing at all while one of them has no leader yet.
  let found
  await eventually('a cluster without elections', 10_000, async () => {
    found = await admin.describeCluster().catch(() => undefined)
    return found
  })
  assert(found.brokers.length > 0, 'no brokers')
  assert(found.clusterId, 'no cluster id')
}

async function create(admin, topic) {
  const wanted = (name, extra) => ({ topics: [{ topic: name, numPartitions: 3, ...extra }] })
  const configEntries = [{ name: 'retention.ms', value: '3600000' }]
  assert.equal(await admin.createTopics(wanted(topic, { configEntries })), true)
  assert.equal(await admin.createTopics(wanted(topic)), false, 'an existing topic was created')
  await refused('INVALID_TOPIC_EXCEPTION', () => admin.createTopics(wanted('not a/topic')))
  await refused('INVALID_REPLICATION_FACTOR', () =>
    admin.createTopics(wanted(`${topic}-far`, { replicationFactor: 9 })),
  )
  const metadata = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(metadata.topics[0].partitions.length, 3)
}

async function setting(admin, topic, name) {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
  })
  return resources[0].configEntries.find((entry) => entry.configName === name)?.configValue
}

async function configs(admin, topic) {
  assert.equal(await setting(admin, topic, 'retention.ms'), '3600000')
  const alter = (configEntries) =>
    admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
    })
  await alter([{ name: 'max.message.bytes', value: '500000' }])
  await eventually('the new settings', 10_000, async () => {
    const limit = await setting(admin, topic, 'max.message.bytes')
    return limit === '500000' && (await setting(admin, topic, 'retention.ms')) === '604800000'
  })
  await refused('INVALID_CONFIG', () => alter([{ name: 'retention.ms', value: 'soon' }]))
}

async function createPartitions(admin, topic) {
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await eventually('5 partitions', 10_000, async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions.length === 5
  })
  await refused('INVALID_PARTITIONS', () =>
    admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }),
  )
}

async function deleteRecords(admin, topic, _group, session) {
  const producer = session.kafka.producer()
  await producer.connect()
  const messages = Array.from({ length: 50 }, () => ({ partition: 0, value: 'record' }))
  await producer.send({ topic, messages })
  await producer.disconnect()
  // kafkajs finds the leader only of topics that this admin has asked about.
  await admin.fetchTopicOffsets(topic)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '20' }] })
  const offsets = await admin.fetchTopicOffsets(topic)
  const { low, high } = offsets.find(({ partition }) => partition === 0)
  assert.deepEqual({ low, high }, { low: '20', high: '50' })
}

async function groups(admin, topic, groupId) {
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '42' }] })
  const committed = async () => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    return partitions.find(({ partition }) => partition === 0).offset
  }
  assert.equal(await committed(), '42')
  const listed = await admin.listGroups()
  assert(listed.groups.some((group) => group.groupId === groupId), 'the group is not listed')
  const described = await admin.describeGroups([groupId])
  assert.equal(described.groups[0].state, 'Empty')
  await admin.resetOffsets({ groupId, topic, earliest: true })
  // kafkajs commits what "earliest" stands for, and partition 0 begins at 20.
  assert(['20', '-2'].includes(await committed()), `reset to ${await committed()}`)
  await admin.deleteGroups([groupId])
  const left = await admin.listGroups()
  assert(!left.groups.some((group) => group.groupId === groupId), 'the group is still listed')
}

async function deleteTopic(admin, topic) {
  await admin.deleteTopics({ topics: [topic] })
  await eventually('the topic to go', 10_000, async () => {
    const topics = await admin.listTopics()
    return !topics.includes(topic)
  })
  await refused('UNKNOWN_TOPIC_OR_PARTITION', () => admin.deleteTopics({ topics: [topic] }))
}
