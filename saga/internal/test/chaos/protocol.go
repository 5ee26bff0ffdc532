package chaos

import (
	"bytes"
	"sync/atomic"
)

// mysqlCommits recognizes a COMMIT in MySQL's protocol: a COM_QUERY with that
// text. The driver commits in this way also if its other statements are prepared.
// The handshake has the same framing.
func mysqlCommits(fromClient bool) func([]byte) event {
	if !fromClient {
		return func([]byte) event { return nothing }
	}
	// A packet is 3 bytes of length, a sequence number, and the payload. A piece
	// may hold a part of a packet, or several.
	var packet []byte
	return func(piece []byte) event {
		packet = append(packet, piece...)
		found := nothing
		for len(packet) >= 4 {
			end := 4 + int(packet[0]) + int(packet[1])<<8 + int(packet[2])<<16
			if len(packet) < end {
				break
			}
			const comQuery = 3
			if payload := packet[4:end]; len(payload) > 0 && payload[0] == comQuery && bytes.EqualFold(payload[1:], []byte("COMMIT")) {
				found = commit
			}
			packet = packet[end:]
		}
		return found
	}
}

// requests recognizes a request of HTTP/1.1 that is a call of a branch. Each batch of calls adds
// to batches.
func requests(batches *atomic.Int64) classifier {
	return func(fromClient bool) func([]byte) event {
		return func(piece []byte) event {
			if !fromClient || !bytes.HasPrefix(piece, []byte("POST /")) {
				return nothing
			}
			if line, _, _ := bytes.Cut(piece, []byte("\r\n")); bytes.Contains(line, []byte("~calls ")) {
				batches.Add(1)
			}
			return request
		}
	}
}

// natsAcks recognizes the answer to a publish: a message to a reply subject
// with the name of the stream in JSON. It misses one that is split between two
// pieces; then the fault comes at the next one.
func natsAcks(fromClient bool) func([]byte) event {
	return func(piece []byte) event {
		if !fromClient && bytes.Contains(piece, []byte(`{"stream":"`+stream+`"`)) && bytes.Contains(piece, []byte(`"seq":`)) {
			return ack
		}
		return nothing
	}
}
