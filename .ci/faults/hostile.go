package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	apiVersionsKey = 18
	hostileTopic   = "hostile"
	answerLimit    = 10 * time.Second
	lorisCount     = 200
	randomPerAPI   = 20
)

// versionRange is what the broker advertises for an API.
type versionRange struct{ key, minimum, maximum int16 }

// hostile sends what no client would, and after each kind asks a right client how it fares.
type hostile struct {
	*program
	broker *broker
	right  *kgo.Client
	apis   []versionRange
	count  int
}

func (p *program) hostileFrames() {
	p.withBroker("hostile", func(b *broker) {
		right, err := kgo.NewClient(
			kgo.SeedBrokers(b.address()),
			kgo.DefaultProduceTopic(hostileTopic),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{hostileTopic: {0: kgo.NewOffset().AtStart()}}),
			kgo.DisableClientMetrics(),
		)
		h := &hostile{program: p, broker: b, right: right}
		p.Run("hostile: a right client works", func() error { return errors.Join(err, h.prepare()) })
		if len(h.apis) > 0 {
			defer right.Close()
			h.attack()
		}
	})
}

func (h *hostile) prepare() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	admin := kadm.NewClient(h.right)
	answer, err := admin.CreateTopic(ctx, 1, 1, nil, hostileTopic)
	if err := errors.Join(err, answer.Err); err != nil {
		return err
	}
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return err
	}
	for _, broker := range versions {
		broker.EachKeySorted(func(key, minimum, maximum int16) {
			h.apis = append(h.apis, versionRange{key, minimum, maximum})
		})
	}
	return h.healthy()
}

// healthy sends a record through the broker on connections that were open all the time.
func (h *hostile) healthy() error {
	if !h.broker.alive() {
		return fmt.Errorf("the broker ended: %s", h.broker.lastLines())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h.count++
	sent := fmt.Appendf(nil, "record %d", h.count)
	if err := h.right.ProduceSync(ctx, &kgo.Record{Value: sent}).FirstErr(); err != nil {
		return fmt.Errorf("a right producer: %w", err)
	}
	fetches := h.right.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		return fmt.Errorf("a right consumer: %w", err)
	}
	return checks.Same("record read", string(sent), string(fetches.Records()[0].Value))
}

// check runs one kind of attack, and the broker must be healthy after it.
func (h *hostile) check(name string, attack func() error) {
	h.Run("hostile: "+name, func() error {
		if err := attack(); err != nil {
			return err
		}
		return h.healthy()
	})
}

func (h *hostile) attack() {
	before, err := h.broker.residentBytes()
	h.Run("hostile: memory can be read", func() error { return err })
	h.check("frame of size 0", func() error { return h.closes(frameOf(0, nil)) })
	h.check("frame of negative size", func() error { return h.closes(frameOf(-1, []byte("abcdefgh"))) })
	h.check("frame of the smallest size", func() error { return h.closes(frameOf(-1<<31, nil)) })
	h.check("frame of size 2^31-1", func() error { return h.closes(frameOf(1<<31-1, []byte("abcdefgh"))) })
	h.check("frame too short for a header", func() error { return h.closes(frameOf(3, []byte("abc"))) })
	h.check("truncated frame", h.truncated)
	h.check("text of another protocol", h.otherProtocols)
	h.check("unknown api keys", h.unknownKeys)
	h.check("unknown versions of each api", h.unknownVersions)
	h.check("ApiVersions of an unknown version is answered as version 0", h.futureApiVersions)
	h.check("huge lengths inside right frames", h.hugeLengths)
	h.check("random bytes", h.randomBytes)
	h.check("random bodies for each api and version", h.randomBodies)
	h.check("damaged record batches", h.damagedBatches)
	h.Run("hostile: many slow connections do not slow others", h.slowLoris)
	h.check("connections that come and go", h.comeAndGo)
	h.Run("hostile: memory did not grow", func() error {
		after, err := h.broker.residentBytes()
		if err != nil {
			return err
		}
		if after-before > int64(h.memoryMB)<<20 {
			return fmt.Errorf("from %d to %d bytes", before, after)
		}
		fmt.Printf("hostile: memory went from %d to %d MiB\n", before>>20, after>>20)
		return nil
	})
}

func frameOf(size int32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(size)), body...)
}

// request is a whole frame with a header of version 1, the one that all APIs once shared.
func request(key, version int16, body []byte) []byte {
	header := binary.BigEndian.AppendUint16(nil, uint16(key))
	header = binary.BigEndian.AppendUint16(header, uint16(version))
	header = binary.BigEndian.AppendUint32(header, 77) // correlation id
	header = append(header, 0, 1, 'x')                 // client id
	if flexible(key, version) {
		header = append(header, 0) // no tags
	}
	whole := append(header, body...)
	return frameOf(int32(len(whole)), whole)
}

// flexible says whether a version's header has room for tags.
func flexible(key, version int16) bool {
	known := kmsg.RequestForKey(key)
	if known == nil {
		return false
	}
	known.SetVersion(version)
	return known.IsFlexible()
}

func (h *hostile) dial() (net.Conn, error) {
	connection, err := net.DialTimeout("tcp", h.broker.address(), 5*time.Second)
	if err != nil {
		return nil, err
	}
	return connection, connection.SetDeadline(time.Now().Add(answerLimit))
}

// exchange sends bytes on a connection of their own and gives what comes back: a frame, or nothing if
// the broker closes. Silence beyond the limit is an error.
func (h *hostile) exchange(bytes []byte) ([]byte, error) {
	connection, err := h.dial()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if _, err := connection.Write(bytes); err != nil && !closed(err) {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(connection, size[:]); err != nil {
		if closed(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("neither an answer nor a closed connection: %w", err)
	}
	answer := make([]byte, min(binary.BigEndian.Uint32(size[:]), 1<<20))
	if _, err := io.ReadFull(connection, answer); err != nil {
		return nil, fmt.Errorf("half an answer: %w", err)
	}
	return answer, nil
}

func closed(err error) bool {
	var timeout net.Error
	return !(errors.As(err, &timeout) && timeout.Timeout())
}

func (h *hostile) closes(bytes []byte) error {
	answer, err := h.exchange(bytes)
	if err != nil {
		return err
	}
	if answer != nil {
		return fmt.Errorf("%d bytes came back", len(answer))
	}
	return nil
}

func (h *hostile) truncated() error {
	whole := request(apiVersionsKey, 0, nil)
	for length := range whole {
		connection, err := h.dial()
		if err != nil {
			return err
		}
		if _, err := connection.Write(whole[:length]); err != nil {
			return err
		}
		connection.Close()
	}
	return nil
}

func (h *hostile) otherProtocols() error {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(make([]byte, 600)),
		"SSH-2.0-OpenSSH_9.2\r\n",
	} {
		if err := h.closes([]byte(text)); err != nil {
			return fmt.Errorf("%.8q: %w", text, err)
		}
	}
	return nil
}

func (h *hostile) unknownKeys() error {
	for _, key := range []int16{-1, -32768, 1000, 32767} {
		if err := h.closes(request(key, 0, nil)); err != nil {
			return fmt.Errorf("key %d: %w", key, err)
		}
	}
	return nil
}

func (h *hostile) unknownVersions() error {
	for _, api := range h.apis {
		if api.key == apiVersionsKey {
			continue // it has an answer of its own
		}
		for _, version := range []int16{-1, api.maximum + 1, 32767} {
			if err := h.closes(request(api.key, version, make([]byte, 64))); err != nil {
				return fmt.Errorf("key %d version %d: %w", api.key, version, err)
			}
		}
	}
	return nil
}

func (h *hostile) futureApiVersions() error {
	const unsupportedVersion = 35
	for _, version := range []int16{99, 32767} {
		answer, err := h.exchange(request(apiVersionsKey, version, []byte("whatever a future client says")))
		if err != nil {
			return err
		}
		if len(answer) < 10 {
			return fmt.Errorf("version %d: %d bytes came back", version, len(answer))
		}
		response := kmsg.NewPtrApiVersionsResponse()
		if err := response.ReadFrom(answer[4:]); err != nil {
			return fmt.Errorf("version %d: not an answer of version 0: %w", version, err)
		}
		if err := errors.Join(
			checks.Same("correlation id", uint32(77), binary.BigEndian.Uint32(answer)),
			checks.Same("error code", int16(unsupportedVersion), response.ErrorCode),
		); err != nil {
			return fmt.Errorf("version %d: %w", version, err)
		}
	}
	return nil
}

// hugeLengths claims arrays, strings and bytes of up to 2^31-1 elements in frames that hold a few bytes.
func (h *hostile) hugeLengths() error {
	long := []byte{0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff}
	compact := []byte{0xff, 0xff, 0xff, 0xff, 0x07, 0xff, 0xff, 0xff, 0xff, 0x07, 0xff, 0xff, 0xff, 0xff, 0x07}
	endless := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, api := range h.apis {
		for version := api.minimum; version <= api.maximum; version++ {
			for _, body := range [][]byte{long, compact, endless} {
				if err := h.react(request(api.key, version, body)); err != nil {
					return fmt.Errorf("key %d version %d: %w", api.key, version, err)
				}
			}
		}
	}
	return nil
}

// react sends a frame and hardly waits: what comes back is the broker's choice, only its health counts.
// The connection is closed by halves, so that the broker can read everything before it sees the end.
func (h *hostile) react(bytes []byte) error {
	connection, err := h.dial()
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write(bytes); err != nil && !closed(err) {
		return err
	}
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil && !closed(err) {
		return err
	}
	if err := connection.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, connection)
	return nil
}

func (h *hostile) someBytes(length int) []byte {
	bytes := make([]byte, length)
	for i := range bytes {
		bytes[i] = byte(h.random.Uint32())
	}
	return bytes
}

func (h *hostile) randomBytes() error {
	for range 500 {
		bytes := h.someBytes(1 + h.random.IntN(4096))
		if h.random.IntN(2) == 0 {
			bytes = frameOf(int32(len(bytes)), bytes) // passes the framing, so the header is hit
		}
		if err := h.react(bytes); err != nil {
			return err
		}
	}
	return nil
}

func (h *hostile) randomBodies() error {
	for _, api := range h.apis {
		for range randomPerAPI {
			version := api.minimum + int16(h.random.IntN(int(api.maximum-api.minimum)+1))
			body := h.someBytes(h.random.IntN(300))
			if err := h.react(request(api.key, version, body)); err != nil {
				return fmt.Errorf("key %d version %d: %w", api.key, version, err)
			}
		}
	}
	return nil
}

// damagedBatches flips bytes of a right Produce request; nothing damaged may come to a consumer, which
// the next health check would read.
func (h *hostile) damagedBatches() error {
	produce := kmsg.NewPtrProduceRequest()
	produce.SetVersion(9)
	produce.Acks, produce.TimeoutMillis = -1, 1000
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = h.someBytes(200)
	partition.Records[16] = 2 // magic
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = hostileTopic
	topic.Partitions = append(topic.Partitions, partition)
	produce.Topics = append(produce.Topics, topic)
	body := produce.AppendTo(nil)
	for range 300 {
		damaged := slices.Clone(body)
		for range 1 + h.random.IntN(4) {
			damaged[h.random.IntN(len(damaged))] = byte(h.random.Uint32())
		}
		if err := h.react(request(0, 9, damaged)); err != nil {
			return err
		}
	}
	return nil
}

// roundTrips tells how long a right client takes for some records.
func (h *hostile) roundTrips() (time.Duration, error) {
	start := time.Now()
	for range 20 {
		if err := h.healthy(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// slowLoris holds many connections that send a byte now and then, while a right client goes on.
func (h *hostile) slowLoris() error {
	alone, err := h.roundTrips()
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	var opened []net.Conn
	for range lorisCount {
		connection, err := h.dial()
		if err != nil {
			return err
		}
		opened = append(opened, connection)
	}
	for _, connection := range opened {
		running.Go(func() {
			defer connection.Close()
			for _, b := range frameOf(1000, make([]byte, 1000)) {
				if _, err := connection.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	took, err := h.roundTrips()
	close(stop)
	running.Wait()
	// Whoever waited for them would wait for minutes: they need 100 s for a frame.
	if err == nil && took > 10*alone+5*time.Second {
		err = fmt.Errorf("the same work took %s alone, and %s beside them", alone, took)
	}
	return err
}

func (h *hostile) comeAndGo() error {
	for range 1000 {
		connection, err := h.dial()
		if err != nil {
			return err
		}
		connection.Close()
	}
	return nil
}
