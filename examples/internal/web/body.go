package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// MaxBody is the size limit of a request's body, in bytes.
const MaxBody = 64 << 10

// Decode reads a JSON object of at most MaxBody from the body into a struct. It refuses
// unknown fields and fields that come twice. If it fails, it answers with the reason and
// returns false.
func Decode(c *gin.Context, into any) bool {
	if c.Request.ContentLength == 0 {
		Fail(c, http.StatusBadRequest, "the body is empty: this page takes a JSON object")
		return false
	}
	if kind, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")); kind != "application/json" {
		Fail(c, http.StatusUnsupportedMediaType, "the body must be JSON with the header Content-Type: application/json, as curl --json sends it")
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, MaxBody))
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case err == nil:
		err = decode(body, into)
	case errors.As(err, &large):
		Fail(c, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", MaxBody))
		return false
	case errors.As(err, &slow) && slow.Timeout():
		Fail(c, http.StatusRequestTimeout, "the body took too long to arrive")
		return false
	default:
		err = errors.New("it did not arrive in full")
	}
	if err != nil {
		Fail(c, http.StatusBadRequest, "the body is invalid: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return err == nil
}

func decode(body []byte, into any) error {
	if err := checkObject(body); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends in the middle")
	} else if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// checkObject checks that body is one JSON object in UTF-8 with no field twice: readers
// differ in which of two fields they take.
func checkObject(body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	first, err := decoder.Token()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case err != nil:
		return err
	case first != json.Delim('{'):
		return errors.New("it is not a JSON object")
	case !utf8.Valid(body):
		return errors.New("it is not UTF-8 text")
	}
	names := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if folded := strings.ToLower(name); names[folded] {
			return fmt.Errorf("the field %.40q comes twice", name)
		} else {
			names[folded] = true
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON object")
	}
	return nil
}
