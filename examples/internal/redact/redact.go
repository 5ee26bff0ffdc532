// Package redact removes the secrets of a URL from texts for people.
package redact

import (
	"errors"
	"net/url"
	"strings"
)

// URL returns a URL for people, without its password and its query, which may hold a
// password too.
func URL(at *url.URL) string {
	clean := *at
	clean.RawQuery, clean.Fragment = "", ""
	return clean.Redacted()
}

// Error returns err if its text holds no secret of the URL. Otherwise it returns an error
// with xxxxx in place of each secret.
func Error(err error, at *url.URL) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, secret := range secrets(at) {
		text = strings.ReplaceAll(text, secret, "xxxxx")
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// secrets returns the password and the secret values of the query, plain and escaped.
func secrets(at *url.URL) (secrets []string) {
	add := func(secret string) {
		if secret != "" {
			secrets = append(secrets, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	if password, _ := at.User.Password(); password != "" {
		add(password)
		_, written, _ := strings.Cut(at.User.String(), ":")
		add(written)
	}
	for name, values := range at.Query() {
		for _, word := range []string{"pass", "secret", "token", "key"} {
			if strings.Contains(strings.ToLower(name), word) {
				for _, value := range values {
					add(value)
				}
			}
		}
	}
	return secrets
}
