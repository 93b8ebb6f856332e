package main

import (
	"net"
	"sync"
	"time"
)

// proxy stands on the way from one node to another. While it is cut, bytes vanish as in a broken cable: nothing
// is refused, nothing arrives. What a cut has swallowed is gone, so the connection is reset when the cut ends.
type proxy struct {
	target   string
	listener net.Listener

	lock sync.Mutex
	cut  bool
	held []net.Conn
	open map[net.Conn]net.Conn
}

func newProxy(target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, listener: listener, open: map[net.Conn]net.Conn{}}
	go p.accept()
	return p, nil
}

func (p *proxy) address() string {
	return p.listener.Addr().String()
}

func (p *proxy) accept() {
	for {
		connection, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.lock.Lock()
		if p.cut {
			p.held = append(p.held, connection)
			p.lock.Unlock()
			continue
		}
		p.lock.Unlock()
		go p.join(connection)
	}
}

func (p *proxy) join(from net.Conn) {
	to, err := net.DialTimeout("tcp", p.target, time.Second)
	if err != nil {
		reset(from)
		return
	}
	p.lock.Lock()
	p.open[from] = to
	p.lock.Unlock()
	go p.carry(from, to, from)
	p.carry(to, from, from)
}

// carry moves bytes one way until either end is gone.
func (p *proxy) carry(from, to, key net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		p.lock.Lock()
		cut := p.cut
		p.lock.Unlock()
		if count > 0 && !cut {
			if _, err := to.Write(buffer[:count]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	p.lock.Lock()
	delete(p.open, key)
	cut := p.cut
	if cut {
		// The end of a process is not heard through a broken cable either.
		p.held = append(p.held, from, to)
	}
	p.lock.Unlock()
	if !cut {
		reset(from)
		reset(to)
	}
}

func (p *proxy) sever() {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.cut = true
}

func (p *proxy) heal() {
	p.lock.Lock()
	defer p.lock.Unlock()
	if !p.cut {
		return
	}
	p.cut = false
	for _, connection := range p.held {
		reset(connection)
	}
	p.held = nil
	for from, to := range p.open {
		reset(from)
		reset(to)
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.heal()
}

func reset(connection net.Conn) {
	if tcp, is := connection.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	connection.Close()
}
