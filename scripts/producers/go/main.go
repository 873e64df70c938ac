// Append tells a user that their order has left: it appends one message to Pushway.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/redis/go-redis/v9"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: append USER ORDER")
	}
	entry, err := appendShipped(os.Args[1], json.Number(os.Args[2]))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(entry)
}

func appendShipped(user string, order json.Number) (string, error) {
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6390"))
	if err != nil {
		return "", err
	}
	client := redis.NewClient(options)
	defer client.Close()
	body, err := json.Marshal(map[string]any{"order": order, "text": "Your order is on its way 🚚 Schöne Grüße!"})
	if err != nil {
		return "", err
	}
	return client.XAdd(context.Background(), &redis.XAddArgs{
		Stream: "push:{0}:in",
		Values: []any{
			"to", "user:" + user,
			"body", body,
			"id", fmt.Sprintf("order-%s-shipped", order), // appended again with the same id, it is delivered once
		},
	}).Result()
}
