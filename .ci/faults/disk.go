package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"corelane/ci/checks"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	diskTopic = "disk"
	// Large enough to fill a disk soon, and below the default limit of a batch.
	diskRecordBytes = 512 << 10
)

// smallDisk is a file system that can become full without hurting anyone else.
type smallDisk struct {
	mount, image, kind string
}

// mountSmall prefers ext4 on a loop device, where space behaves as on a server, to tmpfs.
func mountSmall(directory, name string, megabytes int) (*smallDisk, error) {
	d := &smallDisk{mount: filepath.Join(directory, name), image: filepath.Join(directory, name+".image")}
	if err := os.MkdirAll(d.mount, 0o755); err != nil {
		return nil, err
	}
	ext4 := d.mountExt4(megabytes)
	if ext4 == nil {
		d.kind = "ext4"
		return d, nil
	}
	tmpfs := syscall.Mount("tmpfs", d.mount, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))
	if tmpfs == nil {
		d.kind = "tmpfs"
		return d, nil
	}
	return nil, errors.Join(ext4, tmpfs)
}

func (d *smallDisk) mountExt4(megabytes int) error {
	image, err := os.Create(d.image)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := image.Truncate(int64(megabytes) << 20); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", d.image},
		// With discard, what is deleted inside gives its room back to the disk below.
		{"mount", "-o", "loop,discard", d.image, d.mount},
	} {
		if said, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command[0], err, bytes.TrimSpace(said))
		}
	}
	return nil
}

// unmount tries for a while: the kernel closes the files of an io_uring a little after the process that had it is gone.
func (d *smallDisk) unmount() error {
	var busy error
	err := checks.Eventually("the disk is not in use", startLimit, func() (bool, error) {
		busy = syscall.Unmount(d.mount, 0)
		return !errors.Is(busy, syscall.EBUSY), nil
	})
	return errors.Join(err, busy, os.RemoveAll(d.image))
}

func (d *smallDisk) ballast() string {
	return filepath.Join(d.mount, "ballast")
}

// fill reserves, in ever smaller pieces, all the space that is left. Nothing is written, so that the image below stays
// as small as it is.
func (d *smallDisk) fill() error {
	file, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer file.Close()
	end := int64(0)
	for _, size := range []int64{64 << 20, 1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			err = syscall.Fallocate(int(file.Fd()), 0, end, size)
			switch {
			case err == nil:
				end += size
			case errors.Is(err, syscall.EINTR):
				err = nil // by the runtime's own signals
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	return nil
}

func (d *smallDisk) isFilled() bool {
	_, err := os.Stat(d.ballast())
	return err == nil
}

// free gives the space back.
func (d *smallDisk) free() error {
	return os.Remove(d.ballast())
}

// diskFull fills the disk under a broker: it must refuse what it cannot keep, keep what it promised,
// and recover by itself when there is space again.
func (p *program) diskFull() {
	disk, err := mountSmall(p.directory, "small", p.diskMB)
	if err != nil {
		p.Skip("disk full", fmt.Sprintf("no small file system can be mounted here: %v", err))
		return
	}
	fmt.Printf("disk full: on %s of %d MiB\n", disk.kind, p.diskMB)
	defer func() {
		p.Run("disk full: unmount", disk.unmount)
	}()
	port, err := freePort()
	b := newBroker(p.command, filepath.Join(disk.mount, "data"), port)
	b.log = filepath.Join(p.directory, "disk.log")
	defer b.end()
	p.Run("disk full: broker starts", func() error { return errors.Join(err, b.start()) })
	if !b.alive() {
		return
	}
	p.fullAndFree(disk, b)
}

func (p *program) fullAndFree(disk *smallDisk, b *broker) {
	w, err := newDiskWriter(b.address())
	if err != nil {
		p.Run("disk full: client", func() error { return err })
		return
	}
	defer w.client.Close()
	p.Run("disk full: write while there is space", func() error {
		if err := w.create(); err != nil {
			return err
		}
		for range 16 {
			if err := w.write(); err != nil {
				return err
			}
		}
		return nil
	})
	p.Run("disk full: a write is refused with a retriable error", func() error {
		if err := disk.fill(); err != nil {
			return err
		}
		return w.writeUntilRefused((p.diskMB << 20) / diskRecordBytes)
	})
	p.Run("disk full: the process lives and answers", func() error {
		if !b.alive() {
			return fmt.Errorf("it ended: %s", b.lastLines())
		}
		return b.answers()
	})
	p.Run("disk full: everything acknowledged can be read", func() error {
		return w.readBack(b.address())
	})
	p.Run("disk full: it writes again when there is space", func() error {
		if err := disk.free(); err != nil {
			return err
		}
		return w.writeAgain()
	})
	p.Run("disk full: everything acknowledged can be read after kill -9", func() error {
		if err := errors.Join(b.kill(), b.start()); err != nil {
			return err
		}
		return w.readBack(b.address())
	})
}

// diskWriter writes one record at a time and tries none of them again, so that each has one outcome.
type diskWriter struct {
	client *kgo.Client
	// next numbers the records; those that were refused may be in the log or not, the others must be.
	next         uint32
	acknowledged []uint32
}

func newDiskWriter(address string) (*diskWriter, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(address),
		kgo.DefaultProduceTopic(diskTopic),
		kgo.RecordRetries(0),
		kgo.DisableIdempotentWrite(),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProduceRequestTimeout(5*time.Second),
		kgo.DisableClientMetrics(),
	)
	return &diskWriter{client: client}, err
}

func (w *diskWriter) create() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := kadm.NewClient(w.client).CreateTopic(ctx, 1, 1, nil, diskTopic)
	return errors.Join(err, answer.Err)
}

func diskValue(number uint32) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint32(nil, number), diskRecordBytes/4)
}

func (w *diskWriter) write() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.next++
	err := w.client.ProduceSync(ctx, &kgo.Record{Value: diskValue(w.next)}).FirstErr()
	if err == nil {
		w.acknowledged = append(w.acknowledged, w.next)
	}
	return err
}

// writeUntilRefused gives nil when the refusal is one that tells a client to try again later. What the
// broker had reserved may still take records, but no more than the disk could ever hold.
func (w *diskWriter) writeUntilRefused(most int) error {
	for range most {
		err := w.write()
		if err == nil {
			continue
		}
		var refusal *kerr.Error
		switch {
		case !errors.As(err, &refusal):
			return fmt.Errorf("not an answer of the broker: %w", err)
		case refusal == kerr.UnknownServerError || !refusal.Retriable:
			return fmt.Errorf("not a right refusal: %w", err)
		}
		fmt.Printf("disk full: refused with %s after %d records\n", refusal.Message, w.next)
		return nil
	}
	return fmt.Errorf("%d records of %d bytes went to a full disk", most, diskRecordBytes)
}

func (w *diskWriter) writeAgain() error {
	before := len(w.acknowledged)
	return checks.Eventually("16 more records", patience, func() (bool, error) {
		if err := w.write(); err != nil {
			time.Sleep(200 * time.Millisecond)
		}
		return len(w.acknowledged) >= before+16, nil
	})
}

// readBack reads the topic from its start: every acknowledged record once, in order, whole.
func (w *diskWriter) readBack(address string) error {
	start := map[string]map[int32]kgo.Offset{diskTopic: {0: kgo.NewOffset().At(0)}}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(address),
		kgo.ConsumePartitions(start),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found, last := 0, uint32(0)
	for found < len(w.acknowledged) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d of %d records: %w", found, len(w.acknowledged), err)
		}
		for _, record := range fetches.Records() {
			number := binary.BigEndian.Uint32(record.Value)
			if !bytes.Equal(record.Value, diskValue(number)) || number <= last {
				return fmt.Errorf("offset %d: record %d after %d, or damaged", record.Offset, number, last)
			}
			last = number
			// A refused record may be there; an acknowledged one must not be skipped.
			if found < len(w.acknowledged) && number > w.acknowledged[found] {
				return fmt.Errorf("offset %d: record %d, but %d is lost", record.Offset, number, w.acknowledged[found])
			}
			if found < len(w.acknowledged) && number == w.acknowledged[found] {
				found++
			}
		}
	}
	return nil
}
