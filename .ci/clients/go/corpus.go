package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The records that every client suite writes and reads: a pure function of their number. The rules
// stand in ../README.md.
const (
	perCodec         = 20_000
	total            = 5 * perCodec
	corpusPartitions = 6
	firstTimestamp   = int64(1_700_000_000_000)
)

type codec struct {
	name  string
	codec kgo.CompressionCodec
}

var codecs = []codec{
	{"none", kgo.NoCompression()},
	{"gzip", kgo.GzipCompression()},
	{"snappy", kgo.SnappyCompression()},
	{"lz4", kgo.Lz4Compression()},
	{"zstd", kgo.ZstdCompression()},
}

var padding = strings.Repeat("corelane ", 40)

func corpusRecord(topic string, number int) *kgo.Record {
	return &kgo.Record{
		Topic:     topic,
		Partition: int32(number % corpusPartitions),
		Timestamp: time.UnixMilli(firstTimestamp + int64(number)),
		Key:       corpusKey(number),
		Value:     corpusValue(number),
		Headers:   corpusHeaders(number),
	}
}

func corpusKey(number int) []byte {
	if number%1000 == 7 {
		return nil
	}
	return []byte("key-" + strconv.Itoa(number))
}

func corpusValue(number int) []byte {
	switch number % 1000 {
	case 9:
		return nil
	case 11:
		return []byte{}
	}
	return []byte("value-" + strconv.Itoa(number) + "-" + padding[:100+number%150])
}

func corpusHeaders(number int) []kgo.RecordHeader {
	return []kgo.RecordHeader{
		{Key: "codec", Value: []byte(codecs[number/perCodec].name)},
		{Key: "number", Value: []byte(strconv.Itoa(number))},
		{Key: "twice", Value: []byte("a")},
		{Key: "twice", Value: []byte("b")},
	}
}

// corpusLength is how many records of the corpus a partition holds.
func corpusLength(partition int32) int64 {
	return (total - int64(partition) + corpusPartitions - 1) / corpusPartitions
}

func equalBytes(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

// verify checks every field of a record that was read; its number follows from where it lay.
func verify(record *kgo.Record) error {
	number := int(record.Offset)*corpusPartitions + int(record.Partition)
	where := fmt.Sprintf("partition %d offset %d", record.Partition, record.Offset)
	switch {
	case number >= total:
		return fmt.Errorf("%s: beyond the corpus", where)
	case !equalBytes(corpusKey(number), record.Key):
		return fmt.Errorf("%s: key differs: %q", where, record.Key)
	case !equalBytes(corpusValue(number), record.Value):
		return fmt.Errorf("%s: value differs: %q", where, record.Value)
	case record.Timestamp.UnixMilli() != firstTimestamp+int64(number):
		return fmt.Errorf("%s: timestamp differs: %d", where, record.Timestamp.UnixMilli())
	}
	expected := corpusHeaders(number)
	if len(expected) != len(record.Headers) {
		return fmt.Errorf("%s: %d headers", where, len(record.Headers))
	}
	for i, header := range expected {
		if header.Key != record.Headers[i].Key || !equalBytes(header.Value, record.Headers[i].Value) {
			return fmt.Errorf("%s: header %d differs: %v", where, i, record.Headers[i])
		}
	}
	return nil
}
