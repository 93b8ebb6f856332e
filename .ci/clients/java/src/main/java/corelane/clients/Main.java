package corelane.clients;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Runs every suite against the broker at BOOTSTRAP; PARTS may name some of them, comma-separated. Racks are run only if
 * named: they need nodes that stand in some.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        String bootstrap = System.getenv().getOrDefault("BOOTSTRAP", "127.0.0.1:9092");
        String run = Long.toString(System.currentTimeMillis(), 36);
        Session session = new Session(bootstrap, run, Advertised.by(bootstrap));
        Checks checks = new Checks();
        // Groups wait far more than they work, so they share the clock with the other parts.
        Map<String, Runnable> parts = Map.of(
                "content", () -> new Content(session, checks).run(),
                "groups", () -> new Groups(session, checks).run(),
                "administration", () -> new Administration(session, checks).run(),
                "transactions", () -> new Transactions(session, checks).run(),
                "racks", () -> new Racks(session, checks).run());
        String wanted = System.getenv().getOrDefault("PARTS", "content,groups,administration,transactions");
        List<Thread> running = new ArrayList<>();
        for (String part : wanted.split(",")) {
            Thread thread = new Thread(parts.get(part), part);
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) {
            thread.join();
        }
        System.exit(checks.close());
    }
}
