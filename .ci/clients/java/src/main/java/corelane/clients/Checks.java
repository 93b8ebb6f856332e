package corelane.clients;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;

/** Counts named checks and prints one PASS or FAIL line for each. */
final class Checks {
    private final AtomicInteger passed = new AtomicInteger();
    private final AtomicInteger failed = new AtomicInteger();
    private final AtomicInteger skipped = new AtomicInteger();

    interface Check {
        void run() throws Exception;
    }

    void check(String name, Check check) {
        long start = System.nanoTime();
        try {
            check.run();
            passed.incrementAndGet();
            System.out.printf("PASS %s (%.1f s)%n", name, (System.nanoTime() - start) / 1e9);
        } catch (Throwable problem) {
            Throwable cause = problem instanceof ExecutionException ? problem.getCause() : problem;
            failed.incrementAndGet();
            System.out.printf("FAIL %s: %s%n", name, cause.toString().replace('\n', ' '));
            cause.printStackTrace();
        }
    }

    /** Counts what this broker cannot be asked for, and says why. */
    void skip(String name, String why) {
        skipped.incrementAndGet();
        System.out.printf("SKIP %s: %s%n", name, why);
    }

    /** Prints the sum and gives the exit code. */
    int close() {
        String sum = passed + " passed, " + failed + " failed";
        System.out.println(skipped.get() == 0 ? sum : sum + ", " + skipped + " skipped");
        return failed.get() == 0 ? 0 : 1;
    }

    static void that(boolean holds, String otherwise, Object... arguments) {
        if (!holds) {
            throw new AssertionError(String.format(otherwise, arguments));
        }
    }

    static void same(String what, Object expected, Object actual) {
        that(Objects.equals(expected, actual), "%s: expected %s, got %s", what, expected, actual);
    }

    /** The call must fail, and its cause must be of this class. */
    static void refused(Class<? extends Throwable> expected, Callable<?> call) throws Exception {
        Object answer;
        try {
            answer = call.call();
        } catch (Exception problem) {
            Throwable cause = problem instanceof ExecutionException ? problem.getCause() : problem;
            that(expected.isInstance(cause), "expected %s, got %s", expected.getSimpleName(), cause);
            return;
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", got " + answer);
    }

    /** Polls until the condition holds; the name says what was waited for in vain. */
    static void eventually(String what, Duration limit, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + limit.toNanos();
        while (!condition.call()) {
            that(System.nanoTime() < deadline, "not within %s: %s", limit, what);
            Thread.sleep(20);
        }
    }
}
