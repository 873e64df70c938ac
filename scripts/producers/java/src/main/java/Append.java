import com.google.gson.Gson;
import java.util.Map;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.StreamEntryID;

/** Tell a user that their order has left: append one message to Pushway. */
public class Append {
    public static void main(String[] args) {
        String url = System.getenv().getOrDefault("REDIS_URL", "redis://127.0.0.1:6390");
        int order = Integer.parseInt(args[1]);
        try (RedisClient redis = RedisClient.create(url)) {
            StreamEntryID entry = redis.xadd("push:{0}:in", StreamEntryID.NEW_ENTRY, Map.of(
                    "to", "user:" + args[0],
                    "body", new Gson().toJson(Map.of("order", order, "text", "Your order is on its way 🚚 Schöne Grüße!")),
                    "id", "order-" + order + "-shipped")); // appended again with the same id, it is delivered once
            System.out.println(entry);
        }
    }
}
